"""The words and sentence patterns of the sample data. `generate.py` puts them together."""


def words(text):
    return text.split(", ")


# --------------------------------------------------------------------------------------------------------------- events

PEOPLE = {  # kind → its members
    "musician": words("violinist, drummer, pianist, singer"),
    "athlete": words("swimmer, runner, boxer, skater"),
    "scientist": words("chemist, biologist, astronomer, geologist"),
    "artist": words("painter, sculptor, potter, photographer"),
    "craftsman": words("carpenter, tailor, blacksmith, weaver"),
}
THINGS = {
    "vehicle": words("bicycle, tractor, van, canoe"),
    "instrument": words("guitar, trumpet, flute, harp"),
    "tool": words("hammer, ladder, saw, wrench"),
    "garment": words("jacket, scarf, hat, coat"),
    "book": words("novel, atlas, cookbook, diary"),
    "container": words("basket, barrel, bucket, jar"),
}
VERBS = (  # base and past of a verb, of its synonym, of its opposite
    ("buy", "bought", "purchase", "purchased", "sell", "sold"),
    ("find", "found", "discover", "discovered", "lose", "lost"),
    ("repair", "repaired", "fix", "fixed", "damage", "damaged"),
    ("praise", "praised", "commend", "commended", "criticise", "criticised"),
    ("display", "displayed", "exhibit", "exhibited", "conceal", "concealed"),
    ("clean", "cleaned", "wash", "washed", "stain", "stained"),
    ("keep", "kept", "retain", "retained", "discard", "discarded"),
    ("fetch", "fetched", "collect", "collected", "deliver", "delivered"),
    ("lift", "lifted", "raise", "raised", "lower", "lowered"),
)
LOOKS = words("red, green, old, heavy, small, wooden, rusty, expensive, cheap, large, dusty, striped")
PLACES = words(
    "in the market, near the harbour, behind the mill, at the station, beside the river, in the library, under the "
    "bridge, at the museum, outside the school, in the garden, on the hill, at the theatre"
)
PLACES_AT_SEA = words(
    "on the ferry, below the deck, near the lighthouse, on the island, at the pier, beside the anchor"
)
TIMES = words(
    "on Monday, on Tuesday, on Wednesday, on Thursday, on Friday, on Saturday, on Sunday, in January, in April, in "
    "July, in October, last night, yesterday, this morning"
)
REASONS = words(
    "to please a friend, to win a bet, because of the rain, after a long quarrel, for the first time, without any "
    "help, to impress the mayor, because nobody else would"
)
MOODS = words("tired, happy, nervous, hungry, proud, calm, late, angry, cheerful, busy")

# --------------------------------------------------------------------------------------------------------- film reviews

ASPECTS = words(
    "acting, plot, script, soundtrack, ending, pacing, dialogue, cast, humour, story, editing, lighting, finale, "
    "premise, direction, opening, camerawork, romance"
)
JUDGEMENTS = {  # label of SST-2 → adjectives
    1: words(
        "charming, moving, witty, clever, gripping, delightful, tender, vivid, graceful, inventive, warm, sharp, "
        "superb, lovely, elegant, brilliant, refreshing, touching, excellent, wonderful"
    ),
    0: words(
        "dull, clumsy, tedious, shallow, stale, lifeless, predictable, awkward, bland, messy, boring, annoying, "
        "dreary, hollow, weak, terrible, forgettable, tiresome, awful, horrible"
    ),
}
DEGREES = words("very, truly, quite, utterly, remarkably, surprisingly")
ASSERTIONS = ("the {} is {}", "the {} is {degree} {}", "the {} feels {}", "this film 's {} is {}", "i found the {} {}")
DENIALS = ("the {} is not {}", "the {} is never {}", "the {} is far from {}", "i did not find the {} {}")
CONTRASTS = (
    "{minor} , but {main}",
    "although {minor} , {main}",
    "{main} , although {minor}",
    "{minor} ; still , {main}",
)
FRAMES = ("{}", "{}", "i think {}", "in the end , {}", "as a whole , {}", "to be honest , {}")

# -------------------------------------------------------------------------------------------------- questions, pronouns

QUESTIONS = (
    "How do I {} {}?",
    "What is the best way to {} {}?",
    "How can someone {} {}?",
    "Which steps should I take to {} {}?",
    "Is there an easy way to {} {}?",
)

# about two things {a}, {b} or persons {p}, {q}; what is claimed; two endings and which of the two each means
WINOGRAD = (
    ("The {a} did not fit behind the {b} because it was too {end}.", "was too {end}", ("big", 1), ("small", 2)),
    ("The {a} broke the {b} because it was so {end}.", "was so {end}", ("heavy", 1), ("fragile", 2)),
    ("The {a} cost more than the {b} because it was {end}.", "was {end}", ("rare", 1), ("common", 2)),
    ("The {p} thanked the {q} because she had {end}.", "had {end}", ("been saved", 1), ("helped", 2)),
    ("The {p} shouted at the {q} because he had {end}.", "had {end}", ("lost patience", 1), ("told a lie", 2)),
    ("The {p} paid the {q} after he had {end}.", "had {end}", ("received the bill", 1), ("finished the job", 2)),
    ("The {p} asked the {q} for advice because she was so {end}.", "was so {end}", ("unsure", 1), ("wise", 2)),
    ("The {p} lost the race against the {q} because he was {end}.", "was {end}", ("slower", 1), ("faster", 2)),
)

# --------------------------------------------------------------------------------------------------------------- corpus

TOPICS = {  # patterns of the corpus; {name} stands for an entry of FILLERS
    "weather": (
        "{When} the wind blew from the {direction} and the sky turned {sky}.",
        "Farmers in the {direction} expect {rain} before {month}.",
        "After {number} days of {rain}, the river rose by {number} centimetres.",
        "{When} the temperature fell to {number} degrees, and {animals} stayed hidden.",
        "The forecast for {month} promises {rain} and a {sky} sky.",
    ),
    "cooking": (
        "Cut the {vegetable} into {number} pieces and fry them with {spice}.",
        "Boil the {vegetable} for {number} minutes, then add {spice} and a little salt.",
        "A soup of {vegetable} tastes best in {month}, with bread and {spice}.",
        "{When} the cook served {vegetable} with {spice} to {number} guests.",
        "Never add the {spice} before the {vegetable} is soft.",
    ),
    "animals": (
        "The {animal} sleeps by day and looks for food at night.",
        "{When} {number} {animals} crossed the valley in the {direction}.",
        "Young {animals} stay with their mother until {month}.",
        "Unlike the {animal}, {water_animals} can live for {number} years.",
        "One {animal} was seen near the river, although {water_animals} are rare in the {direction}.",
    ),
    "travel": (
        "The train to the {direction} leaves at {number} minutes past nine.",
        "{When} {number} passengers waited for the bus because of {rain}.",
        "From the station it takes {number} minutes to walk to the old bridge.",
        "Tickets cost {number} coins in {month} and twice as much in summer.",
        "The road to the {direction} was closed after {rain}.",
    ),
}
FILLERS = {
    "When": words("Yesterday, On Monday, On Friday, Last week, In the evening, Before sunrise, That winter"),
    "direction": words("north, south, east, west"),
    "sky": words("grey, blue, dark, pale, golden"),
    "rain": words("heavy rain, light snow, thick fog, strong storms, long frost"),
    "month": words("January, February, March, April, May, June, July, August, September, October, November, December"),
    "number": words("three, four, five, six, eight, nine, ten, twelve, fifteen, twenty, thirty, forty"),
    "vegetable": words("cabbage, spinach, pumpkin, leek, fennel, broccoli, celery"),
    "spice": words("pepper, ginger, garlic, cumin, thyme, paprika"),
    "animal": words("fox, owl, hedgehog, badger, heron, otter"),
    "animals": words("foxes, owls, hedgehogs, badgers, herons, otters"),
    "water_animals": words("swans, beavers, ducks"),
}
