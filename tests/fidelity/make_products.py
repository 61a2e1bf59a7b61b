"""Schemas of real products from package registries, for tests/e2e/test_pg_products.py.

    python tests/fidelity/make_products.py FOLDER SERVER_URL

Tryton, an ERP system: its modules from PyPI, in an environment of their own below FOLDER, make
a database as they do for their users (some minutes); its schema becomes FOLDER/tryton.sql. A
schema that somebody has by other means is put beside it as NAME.sql.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psycopg
from psycopg import sql

SERIES = "7.0"
"""Of Tryton; one that is supported for five years."""
MODULES = """
    account account_asset account_budget account_consolidation account_deposit
    account_dunning account_dunning_email account_dunning_fee account_dunning_letter
    account_invoice account_invoice_stock account_payment account_payment_clearing
    account_payment_sepa account_product account_rule account_statement
    account_stock_landed_cost analytic_account analytic_budget analytic_invoice
    attendance bank carrier carrier_percentage carrier_weight commission company
    company_work_time country currency customs dashboard document_incoming incoterm
    inbound_email marketing marketing_automation marketing_campaign marketing_email
    notification_email party party_avatar party_relationship product product_attribute
    product_classification product_image product_kit product_measurements
    product_price_list production production_routing production_work project
    project_invoice project_plan purchase purchase_amendment purchase_request
    purchase_request_quotation purchase_requisition quality sale sale_advance_payment
    sale_amendment sale_complaint sale_gift_card sale_opportunity sale_point
    sale_price_list sale_promotion sale_promotion_coupon sale_subscription sale_supply
    stock stock_forecast stock_inventory_location stock_lot stock_lot_sled stock_package
    stock_package_shipping stock_product_location stock_supply timesheet timesheet_cost
    user_role web_shop web_shortener web_user
"""
DATABASE = "products_tryton"


def main(folder: Path, server: str) -> None:
    """Make FOLDER/tryton.sql. Raises CalledProcessError."""
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / "tryton"
    subprocess.run([sys.executable, "-m", "venv", place], check=True)
    wanted = [
        f"trytond{name}=={SERIES}.*" for name in ("", *(f"_{m}" for m in MODULES.split()))
    ]
    pip = [place / "bin" / "pip", "install", "--quiet", "psycopg2-binary", *wanted]
    subprocess.run(pip, check=True)
    (place / "trytond.conf").write_text("[database]\nuri = postgresql://\n")
    (place / "password").write_text("of-no-importance\n")
    statement = sql.SQL("{} database {}")
    with psycopg.connect(server, autocommit=True) as connection:
        about = connection.info
        name = sql.Identifier(DATABASE)
        connection.execute(statement.format(sql.SQL("create"), name))
        try:
            environment = {
                "PATH": os.environ["PATH"],
                "PGHOST": about.host,
                "PGPORT": str(about.port),
                "PGUSER": about.user,
                "TRYTONPASSFILE": str(place / "password"),
            }
            admin = [
                place / "bin" / "trytond-admin", "-c", place / "trytond.conf",
                "-d", DATABASE, "--email", "nobody@example.com", "--activate-dependencies",
            ]  # fmt: skip
            for what in (["--all"], ["-u", *MODULES.split()]):
                subprocess.run([*admin, *what], check=True, env=environment)
            with (folder / "tryton.sql").open("wb") as out:
                dump = ["pg_dump", "--schema-only", DATABASE]
                subprocess.run(dump, check=True, env=environment, stdout=out)
        finally:
            connection.execute(statement.format(sql.SQL("drop"), name))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
