-- A database with one of everything that is hard to carry. Run by psycopg, as superuser.
CREATE SCHEMA "it's ""a"" schema";
COMMENT ON SCHEMA "it's ""a"" schema" IS E'line one\nline ''two''; \\. é';
CREATE TYPE mood AS ENUM ('sad', 'it''s ok', 'größer');
CREATE DOMAIN even AS int CHECK (VALUE % 2 = 0);
CREATE TYPE pair AS (a int, b text);
CREATE TABLE "it's ""a"" schema"."ta
ble" ("select" int PRIMARY KEY, "da""ta; --" text, "ü" mood, p pair);
INSERT INTO "it's ""a"" schema"."ta
ble"
  SELECT g, repeat(E'\\.\n\t\r\b', g % 4) || g, CASE WHEN g % 3 = 0 THEN 'größer'::mood END, (g, 'x,"y')::pair
    FROM generate_series(1, 500) g;
CREATE TABLE plain (
  id int GENERATED ALWAYS AS IDENTITY (START 10 INCREMENT 5) PRIMARY KEY, n even, j jsonb, a text[], b bytea,
  f double precision, big numeric, r int4range, at timestamptz, gen int GENERATED ALWAYS AS (n * 2) STORED,
  kind varchar(10) CHECK (kind IN ('a', 'b')), EXCLUDE USING gist (r WITH &&));
INSERT INTO plain (n, j, a, b, f, big, r, at, kind)
  SELECT g * 2, jsonb_build_object('k', g, 'ü', '"'), ARRAY['a,b', NULL, '{"}'], decode(lpad(to_hex(g), 8, '0'), 'hex'),
         g / 3.0, g::numeric ^ 30, int4range(g, g + 1), timestamptz '2026-01-01Z' + g * interval '1 hour', 'a'
    FROM generate_series(1, 2000) g;
INSERT INTO plain (n) VALUES (2), (2), (2);
CREATE TABLE copies (v text); INSERT INTO copies SELECT 'same' FROM generate_series(1, 5);
CREATE TABLE nothing (); INSERT INTO nothing DEFAULT VALUES; INSERT INTO nothing DEFAULT VALUES;
CREATE TABLE parts (id int, at date, v text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM ('2026-02-01') TO ('2026-03-01') PARTITION BY HASH (id);
CREATE TABLE parts_2_0 PARTITION OF parts_2 FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE parts_2_1 PARTITION OF parts_2 FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE TABLE parts_x PARTITION OF parts DEFAULT;
INSERT INTO parts SELECT g, date '2026-01-01' + g % 90, 'v' || g FROM generate_series(1, 900) g;
CREATE TABLE parent (a int, b text); CREATE TABLE child (c int) INHERITS (parent);
INSERT INTO child VALUES (1, 'b', 2);
CREATE UNLOGGED TABLE quick (v int); INSERT INTO quick VALUES (1);
CREATE TABLE refers (id int PRIMARY KEY, plain_id int REFERENCES plain DEFERRABLE INITIALLY DEFERRED, self int REFERENCES refers);
INSERT INTO refers VALUES (1, 10, NULL), (2, 15, 1);
CREATE INDEX partial ON plain (lower(kind)) INCLUDE (n) WHERE n > 100;
CREATE STATISTICS st (dependencies) ON n, kind FROM plain;
CREATE SEQUENCE counter START 7 INCREMENT 3; SELECT nextval('counter'), nextval('counter');
CREATE SEQUENCE untouched START 42;
CREATE VIEW seen AS SELECT id, j->>'k' AS k FROM plain WHERE kind IN ('a', 'b') AND n BETWEEN 1 AND 1000;
CREATE RULE seen_insert AS ON INSERT TO seen DO INSTEAD NOTHING;
CREATE MATERIALIZED VIEW kept AS SELECT count(*) FROM plain; CREATE UNIQUE INDEX ON kept (count);
CREATE FUNCTION notice() RETURNS trigger LANGUAGE plpgsql AS $fn$ BEGIN NEW.v := NEW.v || ' $$;--'; RETURN NEW; END $fn$;
CREATE TRIGGER tr BEFORE INSERT ON copies FOR EACH ROW EXECUTE FUNCTION notice();
ALTER TABLE copies DISABLE TRIGGER tr;
CREATE PROCEDURE pr() LANGUAGE sql AS 'SELECT 1';
CREATE AGGREGATE total (int) (SFUNC = int4pl, STYPE = int, INITCOND = 0);
CREATE OPERATOR === (LEFTARG = int, RIGHTARG = int, FUNCTION = int4eq);
CREATE COLLATION c2 FROM "C"; CREATE TEXT SEARCH CONFIGURATION ts (COPY = simple);
CREATE TABLE private (who text, v int); INSERT INTO private VALUES ('a', 1), ('b', 2);
ALTER TABLE private ENABLE ROW LEVEL SECURITY; ALTER TABLE private FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON private USING (who = current_user);
SELECT lo_from_bytea(4242, decode(repeat('00ff5c2e0a', 20000), 'hex')), lo_from_bytea(4243, ''), lo_from_bytea(4000000001, 'x');
COMMENT ON LARGE OBJECT 4242 IS 'an object';
CREATE PUBLICATION pub FOR TABLE plain;
CREATE FOREIGN DATA WRAPPER dummy; CREATE SERVER far FOREIGN DATA WRAPPER dummy OPTIONS (host 'x');
CREATE FOREIGN TABLE elsewhere (v int) SERVER far;
CREATE FUNCTION ev() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN NULL; END';
CREATE EVENT TRIGGER et ON ddl_command_start EXECUTE FUNCTION ev();
