"""What the problems of school books count, which may stand behind a number like a unit."""

COUNTED = frozenset(
    """
    acorn adult airplane album alligator animal ant apartment apple arrangement article artist athlete avocado baby
    bag bagel bale ball balloon banana bar barrel basket basketball bat batch bead bean bear bed bee bicycle bike
    bill bird birthday biscuit block blossom blouse boat bone book bookmark bottle bouquet bowl box boy bracelet
    branch bread brick bridge brother brownie bucket bug building bulb bundle bunny burger burrito bus bush
    butterfly button cake camel camper can candle candy cap car caramel card carnation carpet carriage carrot carton
    case castle cat caterpillar chair chapter cherry chicken child chip chocolate choice chord circle clam class
    classmate classroom clip cloud coat coconut code coin color colour column combination comic committee computer
    cone container cookie copy counter country couple course cousin cow crab cracker crane crate crayon cube cupcake
    curtain customer cut cycle daisy dancer deck deer demerit desk diagonal diamond die digit dime dinosaur dish
    division divisor doctor dog doll dolphin donkey donut door doughnut dragon drawer drawing dress drink drop drum
    duck edge egg element elephant employee engine engineer envelope episode eraser error event exam exercise expert
    eye face factor family fan farmer fence file finger fireman fish flag flavor flight floor flower fly folder
    follower fork fox friend frog fruit function game gift giraffe girl glass glove goal goat grain grandchild grape
    graph group guest guitar gumball guppy hamburger hat head helper hen hole home horse hotdog hotel house human
    idea insect integer intersection invitation item jacket jar jellybean jewel job joke jump key kid kind kitten
    kiwi knife lab lady lake lamp lap leaf leg lemon length lesson letter level line lion lizard loaf log lollipop
    machine magazine magnet man mango marble mark marker marshmallow mask match matchstick meal medal meeting member
    message minion mistake model mommy monkey motorcycle mouse move movie muffin mug mushroom nail napkin necklace
    neighbor nest nickel night node notebook novel number nurse nut object occurrence onion orange orchid order
    outcome outfit owl oyster pack package packet page pail painting pair pan pancake panda paper park part
    partition party passenger path patient pea peach peacock peanut pear pearl pebble pen pencil penguin penny
    people pepper performance permutation person pet petal phone photo piano picture pie piece pig pigeon pill
    pillow pin pine pineapple pipe pizza place plane planet plant plate player plum point pole polygon pool popsicle
    possibility post poster pot potato present prime prize problem product program project pumpkin pupil puppy
    puzzle quadrilateral question rabbit race rat ray rectangle region report result ribbon ride ring river road
    robot rock rod roll room root rope rose round row ruler sandwich scarf school scientist scoop seashell seat
    section seed segment sentence sequence servant service serving session set shape share shark sheep sheet shelf
    shell ship shirt shoe shop shot shrimp side sign singer sister site skirt slice snack snail snake sock soda sofa
    soldier solution song sphere spider spoon spot square squirrel stamp star station statue step stick sticker
    stone store story straw strawberry street string student subject subset suit surfer sweater sweet swimmer symbol
    table tail task taxi teacher team tennis term test text ticket tie tiger tile time tire toad tomato tool tooth
    tourist towel tower town toy track train tray treat tree triangle trip triple truck tulip tunnel turkey turn
    turtle type umbrella value van vase vegetable vehicle vertex video visit visitor volunteer vote voter wall watch
    watermelon way whale wheel window winner wolf woman word worker worm zebra zero zombie
    """.split()
)
"""In the singular. Not: numbers and fractions (`thirds`, `dozen`, `quarter`), directions, operations."""

LIKE_COUNTED = {
    "men": "man", "women": "woman", "children": "child", "grandchildren": "grandchild", "persons": "people",
    "person": "people", "feet": "foot", "teeth": "tooth", "geese": "goose", "mice": "mouse", "dice": "die",
    "leaves": "leaf", "knives": "knife", "shelves": "shelf", "loaves": "loaf", "wolves": "wolf", "vertices": "vertex",
    "scarves": "scarf", "firemen": "fireman", "heroes": "hero",
}  # fmt: skip

QUALIFIERS = frozenset(
    "different distinct ordered unordered possible total real positive negative integer whole such full complete "
    "unique valid right lattice more additional extra new distinguishable".split()
)
"""Adjectives that may stand before what is counted."""

TRAILING = frozenset("total altogether each long wide tall high deep old away apart left remaining overall".split())
"""Words that may follow a unit and change nothing."""

CHINESE = {
    "元": "yuan", "块钱": "yuan", "角": "jiao", "美元": "dollar", "欧元": "euro", "米": "m", "厘米": "cm",
    "毫米": "mm", "分米": "dm", "千米": "km", "公里": "km", "平方米": "m2", "平方厘米": "cm2", "平方千米": "km2",
    "平方分米": "dm2", "立方米": "m3", "立方厘米": "cm3", "立方分米": "dm3", "克": "g", "千克": "kg", "公斤": "kg",
    "毫克": "mg", "吨": "t", "升": "L", "毫升": "mL", "秒": "s", "分钟": "min", "小时": "h", "时": "h", "天": "day",
    "日": "day", "周": "week", "星期": "week", "月": "month", "个月": "month", "年": "year", "岁": "year", "牛": "N",
    "焦": "J", "瓦": "W", "伏": "V", "安": "A", "欧": "Ω", "千瓦时": "kWh", "人": "people", "名": "people",
    "位": "people", "单位": "unit", "平方单位": "unit2",
} | dict.fromkeys("个只头匹条本张支枝辆棵件次种组项页题道盒箱袋瓶层排步朵双对圈台颗根把块", "unit")  # fmt: skip
"""Units, and the words that stand between a number and what it counts."""
