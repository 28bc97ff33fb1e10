"""What a new shop sells: category to description and names. `manage.py seed` makes the rest up."""

GOODS = {
    "Black tea": (
        "Fully oxidised, brisk, fond of milk.",
        ["Assam Mangalam", "Ceylon Uva", "Darjeeling Second Flush", "Earl Grey", "English Breakfast", "Keemun Hao Ya",
         "Lapsang Souchong", "Nilgiri Frost", "Yunnan Golden Buds"],
    ),
    "Green tea": (
        "Steamed in Japan, pan-fired in China.",
        ["Bancha Autumn", "Dragon Well", "Genmaicha", "Gunpowder", "Gyokuro", "Hojicha", "Matcha Ceremonial",
         "Sencha Fukamushi", "Snow Bud"],
    ),
    "Oolong": (
        "Between green and black, and never in a hurry.",
        ["Da Hong Pao", "Dong Ding", "Iron Goddess", "Jin Xuan Milk Oolong", "Li Shan High Mountain", "Oriental Beauty",
         "Phoenix Honey Orchid"],
    ),
    "White tea": (
        "Withered, dried, left alone.",
        ["Moonlight White", "Shou Mei", "Silver Needle", "White Peony"],
    ),
    "Herbal": (
        "No tea at all, and good company late in the evening.",
        ["Chamomile Flowers", "Fresh Ginger and Lemon", "Hibiscus", "Lemon Verbena", "Peppermint", "Rooibos Vanilla"],
    ),
    "Teaware": (
        "Things to brew with.",
        ["Bamboo Whisk", "Cast Iron Kettle", "Clay Teapot 200 ml", "Glass Cup", "Porcelain Gaiwan", "Scale to 0.1 g",
         "Stainless Steel Strainer", "Tea Tin, Black"],
    ),
}  # fmt: skip
CITIES = ["Aberdeen", "Brno", "Cork", "Delft", "Esbjerg", "Ferrara", "Ghent", "Haarlem"]
PRAISE = [
    "Better than the one I grew up with.",
    "Fine, but the tin arrived with a dent.",
    "I came for one cup and stayed for four.",
    "Not for me. My sister took it home and is happy.",
    "Second steep is the best one.",
    "Worth every penny.",
    "",
]
