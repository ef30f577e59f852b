"""Words of the demo catalogue: invented brands and product lines, ordinary things. No real product is described."""

from dataclasses import dataclass

COLOURS = ("Black", "Blue", "Green", "Red", "Sand", "White")

SIZE_STEPS = 3
SIZES = {
    "wear": ("Small", "Medium", "Large"),
    "people": ("1-Person", "2-Person", "4-Person"),
    "litres": ("10 L", "20 L", "40 L"),
    "pack": ("Single", "3-Pack", "6-Pack"),
    "length": ("Short", "Standard", "Long"),
    "desk": ("Compact", "Standard", "Wide"),
    "power": ("Lite", "Plus", "Max"),
    "age": ("Ages 3-5", "Ages 6-8", "Ages 9-12"),
}


@dataclass(frozen=True)
class Department:
    """Five subcategories (name, product, key of SIZES, base price), each at home with the two after it, in a circle."""

    name: str
    brands: tuple[str, ...]
    subcategories: tuple[tuple[str, str, str, float], ...]


DEPARTMENTS = (
    Department(
        "Outdoor",
        ("Tarnvale", "Brackwood", "Fellmoor", "Cairnhaus"),
        (
            ("Footwear", "Trail Running Shoes", "wear", 89),
            ("Backpacks", "Hiking Backpack", "litres", 74),
            ("Tents", "Dome Tent", "people", 159),
            ("Sleeping Gear", "Sleeping Bag", "length", 95),
            ("Camp Lighting", "Camping Lantern", "power", 32),
        ),
    ),
    Department(
        "Kitchen",
        ("Oltremar", "Pannette", "Copperlea", "Saltmere"),
        (
            ("Cookware", "Enamel Saucepan", "power", 49),
            ("Knives", "Chef's Knife", "length", 58),
            ("Coffee", "Pour-Over Coffee Maker", "pack", 39),
            ("Storage", "Food Storage Box", "pack", 18),
            ("Bakeware", "Loaf Pan", "desk", 22),
        ),
    ),
    Department(
        "Office",
        ("Quillmark", "Deskara", "Notabene Works", "Inkfield"),
        (
            ("Notebooks", "Hardcover Notebook", "pack", 16),
            ("Pens", "Gel Pen", "pack", 9),
            ("Desk Organizers", "Desk Organizer", "desk", 27),
            ("Lamps", "Desk Lamp", "power", 44),
            ("Chairs", "Task Chair", "wear", 189),
        ),
    ),
    Department(
        "Music",
        ("Lyrabel", "Cantoro", "Resonel", "Fretwick"),
        (
            ("Headphones", "Studio Headphones", "power", 119),
            ("Guitars", "Acoustic Guitar", "desk", 229),
            ("Strings", "Guitar String Set", "pack", 12),
            ("Stands", "Folding Music Stand", "desk", 34),
            ("Cables", "Instrument Cable", "length", 19),
        ),
    ),
    Department(
        "Garden",
        ("Mossgate", "Ferrowick", "Thistledown Yard", "Greenlocke"),
        (
            ("Hand Tools", "Garden Trowel", "length", 17),
            ("Gloves", "Gardening Gloves", "wear", 14),
            ("Planters", "Glazed Planter", "litres", 29),
            ("Watering", "Watering Can", "litres", 24),
            ("Raised Beds", "Raised Garden Bed", "desk", 99),
        ),
    ),
    Department(
        "Fitness",
        ("Kinetra", "Strivenest", "Pulsegrove", "Ironlark"),
        (
            ("Yoga Mats", "Yoga Mat", "length", 36),
            ("Resistance", "Resistance Band", "power", 15),
            ("Dumbbells", "Adjustable Dumbbell", "power", 79),
            ("Bottles", "Insulated Bottle", "wear", 21),
            ("Training Wear", "Training Jacket", "wear", 64),
        ),
    ),
    Department(
        "Travel",
        ("Wayhaven", "Portmanteau & Sons", "Milecrest", "Aerlune"),
        (
            ("Suitcases", "Cabin Suitcase", "wear", 139),
            ("Packing", "Packing Cube", "pack", 19),
            ("Neck Pillows", "Travel Pillow", "wear", 26),
            ("Adapters", "Travel Adapter", "power", 28),
            ("Toiletry Bags", "Toiletry Bag", "litres", 23),
        ),
    ),
    Department(
        "Kids",
        ("Pippalou", "Bramblekit", "Oodlebox", "Tinkersprout"),
        (
            ("Building Toys", "Building Block Set", "age", 34),
            ("Puzzles", "Floor Puzzle", "age", 17),
            ("Craft", "Craft Kit", "age", 21),
            ("Board Games", "Family Board Game", "age", 29),
            ("Ride-On", "Balance Bike", "age", 84),
        ),
    ),
)

LINES = (
    "Aurora", "Cascade", "Juniper", "Meridian", "Solstice", "Harbor", "Ember", "Drift", "Summit", "Willow",
    "Orbit", "Copper", "Lumen", "Prairie", "Cobalt", "Saffron", "Tundra", "Velvet", "Zephyr", "Granite",
    "Marlow", "Nimbus", "Opal", "Quarry", "Ridge", "Sable", "Tidal", "Umber", "Vista", "Wren",
)  # fmt: skip

PRAISE = (
    "Made for daily use and easy to clean.",
    "Light, sturdy and repairable.",
    "A favourite for small homes and short trips.",
    "Built from recycled materials.",
    "Simple to set up and pleasant to handle.",
    "Tested for years of heavy use.",
)
