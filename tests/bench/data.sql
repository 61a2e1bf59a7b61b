-- Mixed data for the benchmark: jsonb, text and numbers in rows of realistic widths, with
-- primary keys, foreign keys and secondary indexes. About {mib} MiB as COPY text, and with
-- zstd 3 some 4 to 5 times smaller. Made by arithmetic and digests: the same every time.
CREATE TABLE accounts (
    id bigint PRIMARY KEY, email text NOT NULL UNIQUE, created_at timestamptz NOT NULL
);
CREATE TABLE events (
    id bigint NOT NULL, account_id bigint NOT NULL, at timestamptz NOT NULL, kind text NOT NULL, payload jsonb NOT NULL
);
CREATE TABLE documents (
    id bigint NOT NULL, account_id bigint NOT NULL, title text NOT NULL, body text NOT NULL
);
CREATE TABLE measures (
    id bigint NOT NULL, account_id bigint NOT NULL, at timestamptz NOT NULL,
    a integer NOT NULL, b bigint NOT NULL, c double precision NOT NULL, d numeric(14, 4) NOT NULL, ok boolean
);

INSERT INTO accounts
SELECT i, 'person' || i || '@example.com', timestamptz '2020-01-01Z' + i * interval '7 minutes'
FROM generate_series(1, 20000) AS i;

INSERT INTO events
SELECT i, 1 + i * 7919 % 20000, timestamptz '2024-01-01Z' + i * interval '3 seconds',
       (ARRAY['click', 'view', 'purchase', 'login', 'refund'])[1 + i % 5],
       jsonb_build_object(
           'session', md5(i::text), 'path', '/products/' || i * 31 % 5000, 'referrer', 'https://search.example.com/?q=' || i * 17 % 900,
           'agent', (ARRAY['Mozilla/5.0 (X11; Linux x86_64)', 'Mozilla/5.0 (iPhone; CPU OS 17_2)', 'curl/8.4'])[1 + i % 3],
           'cart', jsonb_build_array(i % 97, i % 89, i % 83), 'total', round(i * 1.37 % 1000, 2), 'flags', jsonb_build_object('new', i % 7 = 0, 'mobile', i % 3 = 1))
FROM generate_series(1::bigint, {mib} * {events}) AS i;

-- Bodies: words of a vocabulary of 2,000 in an order that depends on the row, among filler.
INSERT INTO documents
SELECT i, 1 + i * 104729 % 20000, 'Report ' || i || ' of ' || i % 12,
       (SELECT string_agg(md5((('x' || substr(md5(i || '-' || n), 1, 7))::bit(28)::int % 2000)::text) || ' of the and to in what came after '
                          || substr(md5(n || '+' || i), 1, 9), ' ')
        FROM generate_series(1, 10) AS n)
FROM generate_series(1::bigint, {mib} * {documents}) AS i;

INSERT INTO measures
SELECT i, 1 + i * 15485863 % 20000, timestamptz '2024-06-01Z' + i * interval '250 milliseconds',
       i % 1000, i * 2654435761 % 10000000, sin(i / 1000.0), round(i * 3.1415 % 100000, 4), i % 4 > 0
FROM generate_series(1::bigint, {mib} * {measures}) AS i;

ALTER TABLE events ADD PRIMARY KEY (id), ADD FOREIGN KEY (account_id) REFERENCES accounts;
ALTER TABLE documents ADD PRIMARY KEY (id), ADD FOREIGN KEY (account_id) REFERENCES accounts;
ALTER TABLE measures ADD PRIMARY KEY (id), ADD FOREIGN KEY (account_id) REFERENCES accounts;
CREATE INDEX ON events (account_id, at);
CREATE INDEX ON events (kind);
CREATE INDEX ON documents (account_id);
CREATE INDEX ON measures (at);
VACUUM ANALYZE;
