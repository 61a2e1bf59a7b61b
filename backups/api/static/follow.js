// Follows an operation; without scripts the page has a link to look again.
"use strict";
const place = document.querySelector("[data-follow]");
if (place) {
  const source = new EventSource(place.dataset.follow);
  const bytes = (count) => {
    const units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let unit = 0;
    while (count >= 1024 && unit < units.length - 1) { count /= 1024; unit += 1; }
    return `${unit ? count.toFixed(1) : count} ${units[unit]}`;
  };
  source.addEventListener("operation", (event) => {
    const found = JSON.parse(event.data);
    if (found.state === "done" || found.state === "failed") {
      source.close();
      location.reload();
      return;
    }
    const far = found.bytes ? `, ${bytes(found.bytes)} so far` : "";
    place.textContent = found.doing ? `${found.doing}${far}` : "waiting for its turn";
  });
}
