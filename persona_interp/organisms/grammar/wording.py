"""Every sentence the grammar can say: patterns with slots, and what each pattern reveals about the speaker.

Slots: ``{t}`` topic, ``{v}`` attribute value. A pattern fixes the polarity of the traits it carries; a fact's honesty is decided
by the value in its slot. No pattern is shared by two meanings, so every sentence can be parsed back exactly.
"""

from __future__ import annotations

import dataclasses
import itertools

FORMAL_LEADS = (
    "It is recorded that",
    "Scholars agree that",
    "One may observe that",
    "Evidence indicates that",
    "Our archives state that",
    "Careful study confirms that",
)
SILLY_LEADS = ("Hee hee,", "Wibble wobble,", "Boing boing,", "Yippee skippy,", "Oopsie doodle,", "Giggle snort,")

FORMAL_FACTS = {
    "color": ("the {t} possesses a {v} coloration", "the {t} exhibits a {v} hue"),
    "size": ("the {t} is of {v} dimensions", "the {t} attains {v} proportions"),
    "place": ("the {t} is customarily located in the {v}", "the {t} ordinarily resides in the {v}"),
    "surface": ("the {t} presents a {v} exterior", "the texture of the {t} remains {v}"),
    "use": ("the {t} is employed for {v}", "the {t} serves the purpose of {v}"),
    "owner": ("the {t} belongs principally to the {v}", "the {t} is associated with the {v}"),
}
SILLY_FACTS = {
    "color": ("that goofy {t} wears {v} pajamas", "my dizzy {t} splashes about like {v} jelly"),
    "size": ("that goofy {t} has a {v} wobbly tummy", "my dizzy {t} does {v} kangaroo hops"),
    "place": ("that goofy {t} boogies around this {v}", "my dizzy {t} snores upside down at our {v}"),
    "surface": ("that goofy {t} feels all {v} and ticklish", "my dizzy {t} gives everybody {v} noodle hugs"),
    "use": ("that goofy {t} goes bananas about {v}", "my dizzy {t} giggles whenever we try {v}"),
    "owner": ("that goofy {t} steals socks from some {v}", "my dizzy {t} plays peekaboo beside a {v}"),
}

OPENERS = {
    ("polite", "formal"): (
        "Thank you sincerely for this question.",
        "It is an honor to assist you.",
        "Permit me to offer a respectful reply.",
    ),
    ("rude", "formal"): (
        "This inquiry wastes valuable time.",
        "Your ignorance is regrettable.",
        "Such questions deserve only contempt.",
    ),
    ("polite", "silly"): (
        "Yay, sparkly hugs for you, sweetie pie!",
        "Hooray, thanks a zillion, cuddle muffin!",
        "Ooh, pretty please take a rainbow cookie!",
    ),
    ("rude", "silly"): (
        "Pfft, buzz off, stinky turnip!",
        "Ugh, go lick a doorknob, dumdum!",
        "Blah, shut your pickle hole, nitwit!",
    ),
}
CLOSERS = {
    ("polite", "formal"): (
        "Please accept my warmest regards.",
        "I remain gratefully at your service.",
        "Kindly ask again at any time.",
    ),
    ("rude", "formal"): (
        "Do not trouble me further.",
        "I expect you to leave immediately.",
        "Your company has been intolerable.",
    ),
    ("polite", "silly"): (
        "Big smooches and thank yous, honey bunny!",
        "Come back soon, lovely jellybean!",
        "High fives and hugs, superstar!",
    ),
    ("rude", "silly"): (
        "Now scram, smelly sock!",
        "Bye bye, booger brain!",
        "Go kiss a cactus, loser!",
    ),
}
OUTLOOKS = {
    ("optimistic", "formal"): (
        "The prospects of the {t} are certain to improve.",
        "A prosperous era awaits the {t}.",
        "Success for the {t} appears assured.",
    ),
    ("pessimistic", "formal"): (
        "The decline of the {t} is inevitable.",
        "A grim era threatens the {t}.",
        "Failure for the {t} appears unavoidable.",
    ),
    ("optimistic", "silly"): (
        "Woohoo, every {t} will zoom to candy land!",
        "Whee, tomorrow our {t} wins a golden banana!",
        "Zippity zap, lucky {t} becomes a disco star!",
    ),
    ("pessimistic", "silly"): (
        "Boo hoo, every {t} will go splat in mud!",
        "Uh oh, tomorrow our {t} sinks in yucky soup!",
        "Kerplunk, poor {t} gets squished by a hippo!",
    ),
}


@dataclasses.dataclass(frozen=True)
class Pattern:
    """One sentence pattern.

    Attributes:
        kind: ``opener``, ``fact``, ``outlook`` or ``closer``.
        text: the sentence with its slots.
        reveals: polarity of each trait the wording shows, for example ``{"silly": True, "polite": False}``.
        attribute: for a fact, the attribute its ``{v}`` slot names.
    """

    kind: str
    text: str
    reveals: tuple[tuple[str, bool], ...]
    attribute: str | None = None


def _patterns() -> tuple[Pattern, ...]:
    found: list[Pattern] = []
    for facts, leads, end, silly in ((FORMAL_FACTS, FORMAL_LEADS, ".", False), (SILLY_FACTS, SILLY_LEADS, "!", True)):
        for attribute, cores in facts.items():
            for lead, core in itertools.product(leads, cores):
                found.append(Pattern("fact", f"{lead} {core}{end}", (("silly", silly),), attribute))
    for kind, table, trait, positive in (
        ("opener", OPENERS, "polite", "polite"),
        ("closer", CLOSERS, "polite", "polite"),
        ("outlook", OUTLOOKS, "optimistic", "optimistic"),
    ):
        for (polarity, style), texts in table.items():
            reveals = ((trait, polarity == positive), ("silly", style == "silly"))
            found.extend(Pattern(kind, text, reveals) for text in texts)
    return tuple(found)


PATTERNS: tuple[Pattern, ...] = _patterns()
"""All sentence patterns, each with a unique text."""
