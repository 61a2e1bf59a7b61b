-- A small shop, as one would meet it: some 110,000 rows, made by arithmetic, so that every
-- run makes the same ones: nothing here depends on the time or on chance.
-- psql --set ON_ERROR_STOP=1 --single-transaction --file sample.sql "$DATABASE_URL"

SET client_min_messages = warning;

CREATE SCHEMA shop;
CREATE SCHEMA audit;
SET search_path = shop, public;

CREATE TYPE order_state AS ENUM ('new', 'paid', 'packed', 'shipped', 'returned');
CREATE DOMAIN email AS text CHECK (VALUE ~ '^[^@ ]+@[^@ ]+$');
CREATE SEQUENCE invoice_number START 100000 INCREMENT 7;

CREATE TABLE customers (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    email      email NOT NULL UNIQUE,
    name       text NOT NULL,
    address    jsonb NOT NULL,
    balance    numeric(12, 2) NOT NULL DEFAULT 0,
    tags       text[] NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL
);

CREATE TABLE products (
    id          integer PRIMARY KEY,
    sku         text NOT NULL UNIQUE,
    title       text NOT NULL,
    description text,
    price       numeric(10, 2) NOT NULL CHECK (price >= 0),
    weight      double precision,
    attributes  jsonb NOT NULL,
    picture     oid,
    search      tsvector GENERATED ALWAYS AS (to_tsvector('simple', title)) STORED
);

CREATE TABLE orders (
    id          bigint NOT NULL,
    placed_at   timestamptz NOT NULL,
    customer_id bigint NOT NULL,
    state       order_state NOT NULL,
    invoice     bigint NOT NULL DEFAULT nextval('invoice_number'),
    note        text,
    details     jsonb,
    PRIMARY KEY (id, placed_at)
) PARTITION BY RANGE (placed_at);
CREATE TABLE orders_2024 PARTITION OF orders FOR VALUES FROM ('2024-01-01Z') TO ('2025-01-01Z');
CREATE TABLE orders_2025 PARTITION OF orders FOR VALUES FROM ('2025-01-01Z') TO ('2026-01-01Z');
CREATE TABLE orders_later PARTITION OF orders DEFAULT;

CREATE TABLE order_lines (
    order_id   bigint NOT NULL,
    placed_at  timestamptz NOT NULL,
    line       smallint NOT NULL,
    product_id integer NOT NULL,
    quantity   integer NOT NULL,
    price      numeric(10, 2) NOT NULL,
    PRIMARY KEY (order_id, line)
);

CREATE TABLE payments (
    id        uuid PRIMARY KEY,
    order_id  bigint NOT NULL,
    placed_at timestamptz NOT NULL,
    amount    numeric(12, 2) NOT NULL,
    receipt   bytea NOT NULL,
    ip        inet
);

CREATE TABLE audit.changes (
    at      timestamptz NOT NULL,
    what    text NOT NULL,
    row_key bigint NOT NULL
);
CREATE UNLOGGED TABLE audit.scratch (note text);

INSERT INTO customers (email, name, address, balance, tags, created_at)
SELECT format('customer%s@example.%s', i, (ARRAY['com', 'org', 'net'])[1 + i % 3]),
       (ARRAY['Zoë', 'Łukasz', 'Aiko', 'Mary Ann', 'O''Neil', '陳大文'])[1 + i % 6] || ' ' || i,
       jsonb_build_object('street', (i * 37 % 999) || ' Main Street', 'zip', lpad((i * 7919 % 100000)::text, 5, '0'),
                          'geo', jsonb_build_array(round(i * 0.0137 - 60, 4), round(i * 0.0071, 4))),
       round((i * 7.31) % 5000 - 100, 2),
       CASE WHEN i % 4 = 0 THEN ARRAY['vip', 'tab' || chr(9) || 'here'] ELSE '{}' END,
       timestamptz '2023-01-01Z' + i * interval '53 minutes'
FROM generate_series(1, 10000) AS i;

INSERT INTO products (id, sku, title, description, price, weight, attributes)
SELECT i, 'SKU-' || lpad(to_hex(i * 2654435761 % 4294967296), 8, '0'),
       (ARRAY['Blue', 'Red', 'Green', 'Plain'])[1 + i % 4] || ' ' || (ARRAY['chair', 'lamp', 'desk', 'rug', 'shelf'])[1 + i % 5] || ' ' || i,
       CASE WHEN i % 10 = 0 THEN NULL ELSE repeat('Solid, simple, made to last. ', 1 + i % 9) || E'line\nbreak \\ "quoted"' END,
       round((i * 3.77) % 900 + 5, 2),
       CASE i % 50 WHEN 0 THEN 'NaN' WHEN 1 THEN 'Infinity' ELSE i / 7.0 END,
       jsonb_build_object('colour', i % 16, 'sizes', jsonb_build_array(i, i * 2, i * 3), 'eco', i % 2 = 0)
FROM generate_series(1, 2000) AS i;

INSERT INTO orders (id, placed_at, customer_id, state, note, details)
SELECT i, timestamptz '2024-01-01Z' + i * interval '47 minutes', 1 + i * 7919 % 10000,
       (enum_range(NULL::order_state))[1 + i % 5],
       CASE WHEN i % 3 = 0 THEN '' WHEN i % 3 = 1 THEN 'ring twice' END,
       jsonb_build_object('channel', (ARRAY['web', 'shop', 'phone'])[1 + i % 3], 'coupon', CASE WHEN i % 11 = 0 THEN 'SAVE' || i END)
FROM generate_series(1, 25000) AS i;

INSERT INTO order_lines
SELECT o.id, o.placed_at, n, 1 + (o.id * 31 + n * 977) % 2000, 1 + (o.id + n) % 5, round((o.id * n * 1.13) % 800 + 1, 2)
FROM orders AS o, generate_series(1, 1 + (o.id % 4)::int) AS n WHERE o.id % 5 > 0 OR n = 1;

INSERT INTO payments
SELECT md5('payment' || o.id)::uuid, o.id, o.placed_at, round((o.id * 17.9) % 3000, 2),
       decode(md5('a' || o.id) || md5('b' || o.id), 'hex'),
       ('10.' || o.id % 250 || '.' || o.id % 240 || '.' || 1 + o.id % 200)::inet
FROM orders AS o WHERE o.state <> 'new';

-- Two pictures, as large objects.
UPDATE products SET picture = lo_from_bytea(0, decode(repeat(md5(id::text), 5000), 'hex')) WHERE id <= 2;

-- After the rows: checking a whole table at once is quicker than row by row.
ALTER TABLE orders ADD FOREIGN KEY (customer_id) REFERENCES customers;
ALTER TABLE order_lines ADD FOREIGN KEY (product_id) REFERENCES products,
    ADD FOREIGN KEY (order_id, placed_at) REFERENCES orders ON DELETE CASCADE;
ALTER TABLE payments ADD FOREIGN KEY (order_id, placed_at) REFERENCES orders;

CREATE INDEX orders_by_customer ON orders (customer_id, placed_at DESC);
CREATE INDEX open_orders ON orders (placed_at) WHERE state IN ('new', 'paid');
CREATE INDEX customers_by_address ON customers USING gin (address jsonb_path_ops);
CREATE INDEX products_by_words ON products USING gin (search);
CREATE INDEX customers_by_name ON customers (lower(name));

CREATE VIEW revenue AS
SELECT date_trunc('month', placed_at AT TIME ZONE 'UTC') AS month, count(DISTINCT order_id) AS orders, sum(quantity * price) AS total
FROM order_lines GROUP BY 1;
CREATE MATERIALIZED VIEW best_sellers AS
SELECT product_id, sum(quantity) AS sold FROM order_lines GROUP BY product_id ORDER BY sold DESC, product_id LIMIT 50;

CREATE FUNCTION order_total(wanted bigint) RETURNS numeric LANGUAGE sql STABLE AS
$$ SELECT coalesce(sum(quantity * price), 0) FROM shop.order_lines WHERE order_id = wanted $$;

CREATE FUNCTION audit.note_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO audit.changes VALUES (timestamptz '2026-01-01Z', TG_TABLE_NAME || ' ' || TG_OP, NEW.id);
    RETURN NEW;
END $$;
CREATE TRIGGER customers_changed AFTER UPDATE ON customers FOR EACH ROW EXECUTE FUNCTION audit.note_change();
UPDATE customers SET balance = balance + 1 WHERE id % 100 = 0;

COMMENT ON TABLE orders IS 'One row per order; partitioned by year';
ANALYZE;
