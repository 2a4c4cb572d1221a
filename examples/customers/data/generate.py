"""Writes look-alike documents of a shop, one a day: `python3 data/generate.py [FOLDER] [--scale N] [--days N]`.

A document has the customers that something happened to on its day, each with all of its transactions. The mess: apostrophes
in names, amounts that add up as decimals only, customers without transactions, e-mail addresses that change, products that
are renamed, and customers whose numbers or addresses break a rule. The document of one day comes late: it is in `late/`.
"""

import argparse
import datetime
import json
import pathlib
import random
from decimal import Decimal

FIRST = ["Siobhán", "Marco", "Aoife", "Jean", "Nils", "Olu", "Renée", "Zoë", "Tariq", "Mei"]
LAST = ["O'Neill", "D'Angelo", "Smith", "L'Hôpital", "Åberg", "O'Brien", "Müller", "N'Diaye", "Khan", "Li"]
PRODUCTS = ["Children's Book", "Tea 250 g", "Lamp", "Rain Coat", "Chef's Knife", "Mug", "Notebook", "Headphones"]
FIRST_DAY = datetime.date(2024, 3, 1)
LATE = 2    # the third day


class Shop:
    def __init__(self, scale):
        self.dice = random.Random(7)
        self.customers = []
        self.scale = scale
        self.transactions = 0
        self.products = list(PRODUCTS)

    def sign_up(self, day):
        number = len(self.customers) + 1
        name = f"{FIRST[number % 10]} {LAST[number // 10 % 10 if number > 10 else number % 7]}"
        self.customers.append({
            "id": number, "name": name, "email": f"customer{number}@example.com",
            "signup_date": (day - datetime.timedelta(days=1 + self.dice.randrange(300))).isoformat(),
            "last_purchase": None, "total_spent": Decimal("0"), "transactions": [],
        })
        return self.customers[-1]

    def buy(self, customer, day, amounts):
        for amount in amounts:
            self.transactions += 1
            product = self.dice.randrange(len(self.products))
            customer["transactions"].append({
                "transaction_id": f"T{self.transactions:06d}", "date": day.isoformat(), "amount": Decimal(amount),
                "product_id": f"P{product + 1}", "product_name": self.products[product],
            })
            customer["total_spent"] += Decimal(amount)
            customer["last_purchase"] = day.isoformat()

    def open(self, number):
        """A day: the customers that something happened to."""
        day = FIRST_DAY + datetime.timedelta(days=number)
        touched = [self.sign_up(day) for _ in range((30 if number == 0 else 4) * self.scale)]
        for customer in self.customers:
            # Every fifth customer never buys.
            if customer["id"] % 5 and self.dice.random() < 0.3:
                cents = [1 + self.dice.randrange(20_000) for _ in range(1 + self.dice.randrange(3))]
                self.buy(customer, day, [Decimal(cent) / 100 for cent in cents])
                touched.append(customer)
        touched += self.planned(number, day)
        if number == 3:
            self.products[2] = "Lamp (LED)"
        seen = {customer["id"]: customer for customer in touched}
        return day, [self.told(seen[key]) for key in sorted(seen)]

    def planned(self, number, day):
        """What every look-alike has."""
        one, two, three, four = self.customers[0], self.customers[1], self.customers[2], self.customers[3]
        if number == 0:
            self.buy(one, day, ["10.1", "20.2"])
            self.buy(self.customers[5], day, ["19.99"])
            return [one, two, self.customers[5]]
        # One address changes on a day that comes late, and changes back; another one changes once.
        if number == 1:
            return [two, three]
        if number == 2:
            two["email"] = "two.new@example.com"
            three["email"] = "three.moved@example.com"
            return [two, three]
        if number == 3:
            two["email"] = "customer2@example.com"
            return [two]
        if number == 4:
            four["email"] = "four.at.example.com"
            return [three, four]
        return []

    def told(self, customer):
        """As the document has it: some customers break a rule, and one has no list of transactions at all."""
        told = {**customer, "transactions": list(customer["transactions"])}
        if customer["id"] == 6 and told["transactions"]:
            told["total_spent"] += Decimal("0.01")
        if customer["id"] == 7 and told["last_purchase"]:
            told["last_purchase"] = "2024-02-29"
        if customer["id"] == 8 and told["last_purchase"]:
            told["signup_date"] = told["last_purchase"]
        if customer["id"] == 10:
            del told["transactions"]
        return told


class Numbers(json.JSONEncoder):
    """Amounts as the shop writes them: 10.1, not 10.10 and not "10.1"."""

    def default(self, value):
        return float(value) if isinstance(value, Decimal) else super().default(value)


def main():
    here = pathlib.Path(__file__).parent
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=pathlib.Path, default=here)
    parser.add_argument("--scale", type=int, default=1, help="so many times the customers")
    parser.add_argument("--days", type=int, default=6)
    call = parser.parse_args()
    shop = Shop(call.scale)
    for number in range(call.days):
        day, customers = shop.open(number)
        folder = call.folder / ("late" if number == LATE else "bronze") / day.isoformat()
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"customers": customers}, cls=Numbers, ensure_ascii=False)
        (folder / "customers.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
