#!/usr/bin/env python3
"""Makes the plays and profiles of this example: the same bytes in every run.

    python3 data/generate.py [FOLDER]

Plays come as one file a day, newest first, as tab-separated text with neither a header nor quotes:

    user_000004<TAB>2009-05-04T23:08:57Z<TAB>artist_id<TAB>artist_name<TAB>track_id<TAB>track_name

The mess is that of real listening histories: ids are often empty, names hold quotes that never end and letters of all
scripts, several plays stand at one second. And there are ties, where the rules are about ties:

- gaps of exactly 1,200 seconds, which do not end a session, and of 1,201, which do
- sessions of equally many tracks around the place where the fifty longest end
- songs of equally many plays around the place where the ten most played end
"""

import datetime as dt
import random
import sys
import uuid
from pathlib import Path

FIRST = dt.date(2009, 5, 1)
DAYS = 7
# So many plays of one song make it equal to the tenth.
HEROES = 2
ARTISTS = {
    "Björk": ["Jóga", "Hyperballad", "Army Of Me"],
    "Sigur Rós": ["Hoppípolla", "Svefn-G-Englar"],
    "椎名林檎": ["丸の内サディスティック", "本能"],
    "Мумий Тролль": ["Владивосток 2000"],
    "Motörhead": ["Ace Of Spades"],
    "David Bowie": ['"Heroes"', "Space Oddity", "Life On Mars?"],
    '"Weird Al" Yankovic': ["Amish Paradise", "White & Nerdy"],
    "Underworld": ['Born Slippy (12" Mix', "Rez"],
    "Guns N' Roses": ["Don't Cry"],
    "Beyoncé": ["Halo", "Crazy In Love"],
    "Röyksopp": ["Eple", "Remind Me"],
    "The Clash": ["London Calling", "Train In Vain"],
    "Nina Simone": ["Feeling Good", "Sinnerman"],
    "Kraftwerk": ["Das Model", "Autobahn"],
    "Antônio Carlos Jobim": ["Águas De Março"],
}
COUNTRIES = ["Germany", "Japan", "Brazil", "United States", "Iceland", "", "Côte d'Ivoire"]


def identifier(chance, name, often):
    """An id that is always the same for a name, and often not known."""
    return "" if chance.random() < often else str(uuid.uuid5(uuid.NAMESPACE_URL, name))


class Plays:
    def __init__(self, chance):
        self.chance = chance
        self.songs = [(artist, track) for artist, tracks in ARTISTS.items() for track in tracks]
        self.lines = {}

    def play(self, user, at, song):
        artist, track = song
        fields = [
            user,
            at.strftime("%Y-%m-%dT%H:%M:%SZ"),
            identifier(self.chance, artist, 0.25),
            artist,
            identifier(self.chance, artist + track, 0.4),
            track,
        ]
        self.lines.setdefault(at.date(), []).append((at, "\t".join(fields)))

    def session(self, user, at, count):
        for number in range(count):
            # The first songs are played most.
            place = min(int(self.chance.expovariate(0.12)), len(self.songs) - 1)
            self.play(user, at, self.songs[place])
            # Now and then two plays at one second: a player that sends what it had kept.
            at += dt.timedelta(seconds=0 if self.chance.random() < 0.05 else self.chance.randrange(60, 420))
        return at


def engineered(plays):
    """Users whose plays are the rules."""
    noon = dt.datetime.combine(FIRST, dt.time(12))
    second = dt.timedelta(seconds=1)
    for user, gap in [("user_900001", 1200), ("user_900002", 1201)]:
        for number in range(4):
            plays.play(user, noon + number * gap * second, plays.songs[number])
    # Over midnight: one session, in the files of two days.
    late = dt.datetime.combine(FIRST + dt.timedelta(days=1), dt.time(23, 50))
    for number in range(6):
        plays.play("user_900003", late + number * 300 * second, plays.songs[number])
    # One that makes the tenth and the eleventh song equal.
    noon = dt.datetime.combine(FIRST + dt.timedelta(days=3), dt.time(12))
    heroes, rest = ("David Bowie", '"Heroes"'), ("Underworld", "Rez")
    for number in range(16):
        plays.play("user_900004", noon + number * 240 * second, heroes if number < HEROES else rest)
    # Five users with sessions of fourteen tracks each, of which not all can be among the fifty.
    for number in range(5):
        at = dt.datetime.combine(FIRST + dt.timedelta(days=2), dt.time(6 + number))
        for track in range(14):
            plays.play(f"user_90001{number}", at + track * 180 * second, plays.songs[-1 - track])


def main(folder):
    chance = random.Random(20090504)
    plays = Plays(chance)
    users = [f"user_{number:06d}" for number in range(1, 41)]
    for user in users:
        likes = chance.randrange(1, 5)
        for day in range(DAYS):
            at = dt.datetime.combine(FIRST + dt.timedelta(days=day), dt.time(chance.randrange(5, 12), chance.randrange(60)))
            for _ in range(chance.randrange(0, likes)):
                at = plays.session(user, at, chance.randrange(2, 18)) + dt.timedelta(seconds=chance.randrange(1300, 9000))
                if at.date() > FIRST + dt.timedelta(days=day):
                    break
    engineered(plays)
    (folder / "plays").mkdir(parents=True, exist_ok=True)
    for old in (folder / "plays").glob("*.tsv"):
        old.unlink()
    for day, lines in sorted(plays.lines.items()):
        if day >= FIRST + dt.timedelta(days=DAYS):
            continue
        newest_first = sorted(reversed(lines), key=lambda line: line[0], reverse=True)
        text = "".join(line + "\n" for _, line in newest_first)
        (folder / "plays" / f"plays_{day}.tsv").write_text(text, encoding="utf-8")
    (folder / "profiles").mkdir(exist_ok=True)
    with open(folder / "profiles" / "profiles.tsv", "w", encoding="utf-8") as file:
        file.write("userid\tgender\tage\tcountry\tsignup\n")
        for user in users + [f"user_90000{n}" for n in range(1, 5)] + [f"user_90001{n}" for n in range(5)]:
            signup = dt.date(2005, 1, 1) + dt.timedelta(days=chance.randrange(1500))
            age = str(chance.randrange(16, 60)) if chance.random() < 0.4 else ""
            fields = [user, chance.choice("mf") if chance.random() < 0.8 else "", age, chance.choice(COUNTRIES)]
            file.write("\t".join(fields + [f"{signup:%b} {signup.day}, {signup.year}"]) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "inbox")
