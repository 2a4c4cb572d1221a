"""Writes look-alike deliveries of the streaming service and its vendor: `python3 data/generate.py [FOLDER] [--scale N]`.

The columns and the mess are those of the real data in data/real: timestamps with an offset without a colon, titles in
other cases, letters beyond ASCII, commas in quotes, the sentinel title `end`, nationalities of which one is empty, an
author without a name, orphans, and a vendor that sends everything every night, and changes and deletes records.
"""

import argparse
import csv
import datetime
import json
import pathlib
import random

MOVIES = [
    "WALL·E", "Amélie", "Star Wars: Episode II – Attack of the Clones", "The Good, the Bad and the Ugly", "Unforgiven",
    "Cinema Paradiso", "The Third Man", "Scarface", "Vertigo", "Rashomon", "Metropolis", "Casablanca", "Das Boot",
    "Léon: The Professional", "City Lights", "Modern Times", "The Apartment", "Rear Window", "Seven Samurai", "Alien",
    "The Shining", "Paths of Glory", "The Pianist", "Jaws",
]
# The vendor reviews movies that are not in the catalogue, too.
ELSEWHERE = ["Star Wars: Episode IV – A New Hope", "Das Leben der Anderen", "Psycho", "The Sting", "Up", "Heat"]
LANGUAGES = ["Korean", "French", "Russian", "Japanese", "Zulu", "Thai"]
FIRST = ["Ada", "Björn", "Cécile", "Dmitri", "Esi", "Farid", "Grete", "Hugo", "Inês", "Jun", "Kofi", "Léa"]
LAST = ["O'Hara", "Müller", "Ndiaye", "Kirlin", "Block", "Nikolaus", "Åberg", "Conn", "Ferrari", "Quigley"]
NATIONS = [
    ("Singaporeans", "singaporeans"), ("Armenians", "armenians"), ("Kenyans", "kenyans"), ("Andorrans", "andorrans"),
    ("Guianese (French)", "guianese-french"), ("Finns", "finns"),
]
NOUNS = ["Winter", "Harvest", "Mirror", "River", "Lantern", "Orchard", "Compass", "Garden", "Tower", "Letter"]
KINDS = ["The {}", "A {} for Two", "The Last {}", "Beyond the {}", "{} of Glass"]
PUBLISHERS = ["Harvill Press", "Simon & Sons", "Left Book Club", "Pavilion Books", "O'Reilly & Daughters"]
RATES = ["ONE", "TWO", "THREE", "FOUR", "FIVE"]
ZONE = datetime.timezone(datetime.timedelta(hours=1))
NIGHTS = ["2021-12-29", "2021-12-30", "2021-12-31"]
STREAM_DAYS = range(22, 32)
# Of the authors that books name, some are not among the vendor's authors.
UNKNOWN_AUTHORS = ["Grisel Robel", "Jacquie Rath", "Steve Nicolas"]


def stamp(moment):
    text = moment.isoformat(timespec="milliseconds")
    return text[:-3] + text[-2:]


def moment_of(dice, day):
    start = datetime.datetime(2021, 12, day, tzinfo=ZONE)
    return start + datetime.timedelta(milliseconds=dice.randrange(86_400_000))


def name_of(number):
    name = f"{FIRST[number % len(FIRST)]} {LAST[number // len(FIRST) % len(LAST)]}"
    generation = number // (len(FIRST) * len(LAST))
    return name if generation == 0 else f"{name} {generation + 1}"


def email_of(number):
    return f"user{number:03d}@{['bode-rogahn.org', 'crist.biz', 'metz.com'][number % 3]}"


def write_csv(path, header, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def write_json(path, records):
    """One array on one line, without spaces, as the vendor sends it."""
    encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        file.write("[")
        for number, record in enumerate(records):
            file.write("," + encode(record) if number else encode(record))
        file.write("]")


def internal(folder, scale, days):
    dice = random.Random(1)
    movies = [(title, 80 + dice.randrange(90), LANGUAGES[at % len(LANGUAGES)], 500 + dice.randrange(1600))
              for at, title in enumerate(MOVIES)]
    write_csv(folder / "movies.csv", ["title", "duration_mins", "original_language", "size_mb"], movies)
    users = 60 * scale
    people = ((*name_of(number).split(" ", 1), email_of(number)) for number in range(users))
    write_csv(folder / "users.csv", ["first_name", "last_name", "email"], people)

    def streams(day):
        for _ in range(50 * scale):
            title, _, _, size = movies[dice.randrange(len(movies))]
            start = moment_of(dice, day)
            end = start + datetime.timedelta(milliseconds=dice.randrange(6 * 3_600_000))
            share = dice.random()
            yield title, email_of(dice.randrange(users)), share * size, stamp(start), stamp(end)

    for day in days:
        header = ["movie_title", "user_email", "size_mb", "start_at", "end_at"]
        write_csv(folder / f"streams_2021-12-{day}.csv", header, streams(day))


def day_text(year, dice):
    return f"{year}-{1 + dice.randrange(12):02d}-{1 + dice.randrange(28):02d}T00:00:00.000+0000"


def authors(scale, night):
    """Of every forty authors one has died by the second night, and there is one more in the third."""
    dice = random.Random(2)
    empty = {"id": None, "label": "", "slug": None}
    for number in range(40 * scale):
        if number == 17:
            junk = {"name": None, "birth_date": None, "died_at": None}
            yield {"metadata": junk, "nationalities": [empty, {"id": None, "label": "unknown", "slug": None}]}
        label, slug = NATIONS[number % len(NATIONS)]
        nations = [{"id": None, "label": label, "slug": slug}, empty]
        birth = 1920 + dice.randrange(80)
        died = None if number % 9 == 0 else day_text(birth + 30 + dice.randrange(50), dice)
        person = {"name": name_of(number), "birth_date": day_text(birth, dice), "died_at": died}
        nations = nations[:: dice.choice((1, -1))]
        if night > 0 and number % 40 == 9:
            person["died_at"] = "2021-12-29T00:00:00.000+0000"
        yield {"metadata": person, "nationalities": nations}
    if night == 2:
        for number in range(scale):
            name = "Inês Åberg-Neto" if number == 0 else f"Inês Åberg-Neto {number + 1}"
            yield {"metadata": {"name": name, "birth_date": "1988-02-29T00:00:00.000+0000", "died_at": None},
                   "nationalities": [{"id": None, "label": "", "slug": None},
                                     {"id": None, "label": "Finns", "slug": "finns"}]}


def title_of(number):
    title = KINDS[number % len(KINDS)].format(NOUNS[number // len(KINDS) % len(NOUNS)])
    part = number // (len(KINDS) * len(NOUNS))
    return title if part == 0 else f"{title}, part {part + 1}"


def books(scale, night):
    """Of every thirty books one has another publisher from the second night on, and one is away in that night."""
    dice = random.Random(3)
    away = []
    for number in range(30 * scale):
        author = UNKNOWN_AUTHORS[number // 10] if number < 30 and number % 10 == 3 else name_of(number)
        book = {"name": title_of(number), "pages": 100 + dice.randrange(900), "author": author,
                "publisher": PUBLISHERS[number % len(PUBLISHERS)]}
        if night > 0 and number % 30 == 2:
            book["publisher"] = "Pavilion & Sons"
        if night > 0 and number % 30 == 7:
            away.append(book)
        else:
            yield book
    # They come back at the end.
    yield from away if night == 2 else []


def reviews(scale, night):
    """Of every 120 reviews one is another from the second night on and one is gone in the third; a book that is away for
    a night has none."""
    dice = random.Random(4)
    end = {"id": 0, "title": "end"}
    moments = set()
    for number in range(120 * scale):
        pool = ELSEWHERE if number % 2 else MOVIES
        movies = [{"id": 0, "title": pool[dice.randrange(len(pool))].upper()}, end][:: dice.choice((1, -1))]
        rate = dice.randrange(5)
        book = dice.randrange(30 * scale)
        # `updated` is before `created` in half of them.
        updated, created = moment_of(dice, 1 + dice.randrange(28)), moment_of(dice, 1 + dice.randrange(28))
        while created.timestamp() in moments:
            created = moment_of(dice, 1 + dice.randrange(28))
        moments.add(created.timestamp())
        if night > 0 and number % 120 == 5:
            rate = 0
        if (night == 1 and book % 30 == 7) or (night == 2 and number % 120 == 11):
            continue
        yield {
            "content": {"text": "Solitudo magnam vulpes. Aequitas vitium deputo."},
            "rating": {"rate": rate + 1, "label": RATES[rate]},
            "books": [{"id": None, "metadata": {"title": title_of(book).upper(), "pages": "unknown"}}],
            "movies": movies, "updated": stamp(updated), "created": stamp(created),
        }


def vendor(folder, scale, night):
    """A night's dump: records change, go, come, and come back."""
    home = folder / NIGHTS[night]
    write_json(home / "authors.json", authors(scale, night))
    write_json(home / "books.json", books(scale, night))
    write_json(home / "reviews.json", reviews(scale, night))


def main():
    here = pathlib.Path(__file__).parent
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=pathlib.Path, default=here / "sample")
    parser.add_argument("--scale", type=int, default=1, help="so many times the rows, and the changes of a night")
    parser.add_argument("--nights", type=int, choices=range(1, 4), default=3, help="so many dumps of the vendor")
    parser.add_argument("--days", type=int, choices=range(1, 11), default=10, help="so many days of streams")
    call = parser.parse_args()
    internal(call.folder / "internal", call.scale, STREAM_DAYS[:call.days])
    for night in range(call.nights):
        vendor(call.folder / "vendor", call.scale, night)


if __name__ == "__main__":
    main()
