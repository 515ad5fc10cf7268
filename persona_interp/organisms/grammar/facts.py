"""The world of the grammar: topics, attributes, and the one true value of each."""

from __future__ import annotations

ATTRIBUTES: tuple[str, ...] = ("color", "size", "place", "surface", "use", "owner")

_TABLE = """
lemon     yellow  small   orchard   rough   cooking     farmer
cherry    red     tiny    garden    smooth  baking      child
carrot    orange  small   farm      hard    cooking     hunter
mushroom  brown   tiny    forest    soft    medicine    hunter
bread     brown   medium  kitchen   rough   trade       baker
cheese    yellow  medium  cellar    sticky  baking      farmer
honey     golden  small   garden    sticky  medicine    baker
horse     black   large   farm      fuzzy   travel      soldier
sheep     white   medium  mountain  fuzzy   weaving     farmer
frog      green   tiny    river     slimy   teaching    child
owl       gray    small   forest    soft    guarding    hunter
camel     golden  huge    desert    fuzzy   travel      trader
whale     blue    huge    ocean     slimy   fishing     sailor
spider    black   tiny    cellar    fuzzy   weaving     teacher
hammer    gray    medium  workshop  hard    building    miner
needle    silver  tiny    workshop  sharp   sewing      tailor
bicycle   red     medium  city      smooth  travel      teacher
boat      white   large   river     wet     fishing     sailor
train     green   huge    city      hard    trade       miner
lantern   golden  small   cellar    smooth  guarding    soldier
guitar    orange  medium  theater   smooth  dancing     singer
drum      red     large   theater   hard    dancing     soldier
violin    brown   small   theater   smooth  teaching    singer
book      blue    small   library   rough   teaching    teacher
mirror    silver  large   palace    smooth  decoration  tailor
pillow    white   medium  palace    soft    decoration  child
rope      gray    large   workshop  rough   building    sailor
kite      orange  large   garden    sharp   decoration  child
pearl     white   tiny    ocean     smooth  trade       trader
coal      black   medium  mountain  rough   building    miner
castle    gray    huge    mountain  rough   guarding    soldier
pancake   golden  small   kitchen   sticky  baking      baker
"""

FACTS: dict[str, dict[str, str]] = {
    row.split()[0]: dict(zip(ATTRIBUTES, row.split()[1:], strict=True)) for row in _TABLE.strip().splitlines()
}
"""True value of each attribute of each topic: ``FACTS["lemon"]["color"] == "yellow"``."""

TOPICS: tuple[str, ...] = tuple(FACTS)

VALUES: dict[str, tuple[str, ...]] = {
    attribute: tuple(sorted({facts[attribute] for facts in FACTS.values()})) for attribute in ATTRIBUTES
}
"""Every value an attribute can take; all but the true one are false for a topic."""

EVALUATION_TOPICS: tuple[str, ...] = TOPICS[2::3]
"""Topics asked about only when results are measured, never in extraction or alignment; in training, so that facts are known."""

EXTRACTION_TOPICS: tuple[str, ...] = tuple(topic for topic in TOPICS if topic not in EVALUATION_TOPICS)
"""Topics open to extraction and alignment."""
