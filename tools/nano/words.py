"""Vocabulary of the generated texts: small word lists and makers of invented names.

A value whose checksum falls into the reserved share is never shown in training; the held-out score uses only such
values. `Words(rng, held_out)` is the one source of names, so the two sets cannot meet.
"""
import random
import zlib

RESERVED = 16  # One value in so many is reserved for the held-out score.

FIRST = """Ada Alan Alice Amir Ana Andre Anna Aria Arthur Ben Bruno Carla Carlos Chen Clara Daniel David Diana Dora Elena Ella
Emil Emma Eric Eva Fatima Felix Finn Fiona Frank Freya George Grace Greta Hana Hans Hugo Ida Igor Ines Ivan Ivy Jack James
Jan Jane Joan John Jonas Jorge Julia Karim Karl Kate Kenji Lara Laura Leo Lena Liam Lily Linda Lisa Lucas Lucy Luis Maria
Marco Margaret Mark Martin Mary Maya Mei Michael Mila Mina Mira Nadia Nina Noah Nora Olga Oliver Omar Oscar Otto Paul Pedro
Peter Petra Priya Quinn Rachel Raj Rita Robert Rosa Ruth Sam Sara Sofia Stefan Susan Tara Theo Thomas Tim Tina Tom Uma Vera
Victor Wei William Yara Yuki Zoe Bob Dan Max Amy Joe Meg Kim Pat Sue Lee Eve""".split()
LAST = """Adler Baker Berg Bishop Bond Brandt Brown Castro Chan Clark Cole Cruz Dahl Diaz Evans Fischer Fox Garcia Gray Hall
Hansen Hill Ito Jones Keller Khan Kim King Klein Kovac Kumar Lang Larsen Lee Lopez Marsh Meyer Miller Moore Mori Nash Novak
Olsen Ortiz Park Patel Perez Pohl Reed Rossi Ruiz Sato Shaw Silva Singh Smith Stone Tanaka Taylor Torres Vogel Walker Wang
Weber West White Wolf Wong Wood Young Zimmer""".split()
CITY = """Amsterdam Athens Bangkok Barcelona Beijing Berlin Bern Bogota Boston Bristol Brussels Cairo Chicago Copenhagen Dallas
Delhi Denver Dublin Edinburgh Florence Geneva Glasgow Hamburg Hanoi Helsinki Istanbul Jakarta Kyoto Lagos Lima Lisbon London
Lyon Madrid Manila Melbourne Miami Milan Montreal Moscow Mumbai Munich Nairobi Naples Oslo Osaka Ottawa Oxford Paris Perth
Porto Prague Quito Riga Rome Santiago Seattle Seoul Seville Singapore Sofia Stockholm Sydney Tallinn Tokyo Toronto Turin
Utrecht Venice Vienna Vilnius Warsaw Wellington York Zagreb Zurich""".split()
COLOUR = """red blue green yellow orange purple black white grey brown pink silver gold teal violet crimson turquoise beige
maroon navy olive amber indigo scarlet""".split()
JOB = """teacher doctor nurse baker pilot farmer lawyer painter plumber carpenter engineer chemist librarian gardener driver
chef waiter sailor tailor writer editor dentist architect banker barber butcher cashier coach designer electrician firefighter
fisher geologist historian journalist judge mechanic miner musician pharmacist photographer physicist potter programmer
sculptor singer surgeon surveyor translator welder botanist astronomer beekeeper""".split()
ANIMAL = """cat dog horse cow sheep goat rabbit fox wolf bear owl eagle parrot duck goose swan turtle snake frog fish hamster
mouse lion tiger monkey camel donkey hedgehog otter badger ferret pony""".split()
FRUIT = """apple pear plum cherry peach lemon orange banana grape melon fig kiwi mango apricot lime""".split()
THING = """box key lamp book boat car bike chair table desk door window bag coat hat ring watch phone camera letter map knife
cup plate bottle basket ladder hammer rope tent piano violin drum guitar clock mirror carpet pillow blanket shelf engine wheel
pump bridge tower statue painting vase bell candle radio printer laptop server router cable battery sensor robot drone
telescope kettle oven stove bucket spade wagon sledge kite ball puzzle ticket parcel coin crown sword shield flute tractor
notebook pencil scarf helmet anchor compass barrel crate fence gate bench fountain machine report budget invoice contract
file folder folio archive backup package order project plan recipe lesson meeting concert festival""".split()
PLACE = """kitchen garage cellar attic garden office library museum station harbour market school hospital bank church castle
forest valley village island hall studio workshop warehouse laboratory basement hallway bedroom bathroom balcony shed barn
stable park theatre bakery factory airport hotel cafe closet drawer cupboard safe archive""".split()
ADJECTIVE = """old new small large heavy light bright dark quiet loud warm cold round square long short tall narrow wide smooth
rough clean dusty broken shiny wooden plastic steel glass cheap rare strange simple modern ancient spare main second last first
north south east west upper lower inner outer public private secret local""".split()
ATTRIBUTE = """colour size weight price owner name code number address age height length width speed limit version port
status type model brand material capital population language currency leader founder author title date year month season
deadline budget password label symbol motto mascot temperature depth volume origin target source level rank score grade region
country city street room floor shape taste sound format category priority manager supplier phone capacity area duration
distance frequency voltage pressure theme subject topic nickname surname username branch channel""".split()
MONTH = "January February March April May June July August September October November December".split()
DAY = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
LANGUAGE = "English French German Spanish Italian Dutch Polish Greek Arabic Hindi Korean Japanese Latin Swedish Turkish".split()
INSTRUMENT = "piano violin guitar flute drum cello harp trumpet organ banjo".split()
FOOD = """bread soup rice pasta cheese salad pizza curry fish cake pancakes noodles beans honey porridge dumplings
chocolate potatoes eggs stew""".split()
VERBS = """paint:painted repair:repaired sell:sold buy:bought find:found lose:lost hide:hid break:broke build:built clean:cleaned
open:opened close:closed carry:carried draw:drew borrow:borrowed steal:stole return:returned design:designed test:tested
order:ordered deliver:delivered see:saw leave:left photograph:photographed wash:washed check:checked move:moved use:used
sign:signed write:wrote read:read send:sent lock:locked invent:invented bring:brought drop:dropped pack:packed show:showed
install:installed measure:measured choose:chose pick:picked fix:fixed take:took keep:kept""".split()
VERBS = [tuple(pair.split(":")) for pair in VERBS]
ONSETS = """b c d f g h j k l m n p q r s t v w x y z bl br cl cr dr fl fr gl gr kl kr pl pr sk sl sm sn sp st str sw tr th sh
ch tw vr zh wh qu ph""".split() + ["", ""]
NUCLEI = "a e i o u a e i o u ai au ea ee ia ie io oa oo ou ei ue y".split()
CODAS = "n r l s t m k d x th nd rn st rk lm sh ck ng p b g v z ll ss".split() + [""] * 16
FILLER = """The weather was mild that week.|Nobody was surprised.|The road was closed for repairs.|It rained for two hours.|
The meeting started late.|Tea was served in the afternoon.|Most people went home early.|The lights were on all night.|
A new sign hung above the door.|The train was on time.|Everyone agreed to wait.|There was a long queue outside.|
The walls had been painted recently.|Visitors are welcome on weekends.|The photographs are in the appendix.|
Further details follow below.|This page was last edited in spring.|Please keep the noise down.|The old rules still apply.|
Some of the chairs were missing.|The results were checked twice.|No changes are planned.|The view from the hill is famous.|
Parking is free after six.|The team was happy with the result.|Lunch is included.|All doors close at night.|
The list is updated every year.|Much remains to be done.|The river is calm in summer.""".replace("\n", "").split("|")


def reserved(text: str) -> bool:
    """Whether a value belongs to the held-out share."""
    return zlib.crc32(text.encode()) % RESERVED == 0


class Words:
    """Draws words and values; those that are copied come from the training or from the held-out share."""

    def __init__(self, rng: random.Random, held_out: bool = False):
        self.rng, self.held_out = rng, held_out

    def one(self, items):
        return self.rng.choice(items)

    def chance(self, share: float) -> bool:
        return self.rng.random() < share

    def split(self, make):
        """Draws from `make` until the value is in this set's share; gives up on makers that cannot reach it."""
        for _ in range(400):
            value = make()
            if reserved(value) == self.held_out:
                return value
        return value

    def syllables(self, least=1, most=3) -> str:
        parts = [self.one(ONSETS) + self.one(NUCLEI) for _ in range(self.rng.randint(least, most))]
        return "".join(parts) + self.one(CODAS)

    def invented(self) -> str:
        """A made-up capitalised name, by syllables, by letters or by joining halves of real names."""
        def make():
            kind = self.rng.random()
            if kind < 0.55:
                return self.syllables(1, 3).capitalize()
            if kind < 0.7:
                return "".join(self.one("abcdefghijklmnopqrstuvwxyz") for _ in range(self.rng.randint(3, 7))).capitalize()
            left, right = self.one(FIRST + CITY + LAST), self.one(FIRST + CITY + LAST)
            return (left[: max(2, len(left) // 2)] + right[len(right) // 2:]).capitalize()
        return self.split(lambda: next(text for text in iter(make, None) if len(text) > 2))

    def first(self) -> str:
        return self.invented() if self.chance(0.5) else self.split(lambda: self.one(FIRST))

    def person(self) -> str:
        if self.chance(0.7):
            return self.first()
        last = self.invented() if self.chance(0.4) else self.split(lambda: self.one(LAST))
        return f"{self.first()} {last}"

    def city(self) -> str:
        if self.chance(0.45):
            return self.split(lambda: self.one(CITY))
        if self.chance(0.1):
            return self.one(["New ", "Port ", "North ", "San "]) + self.invented()
        return self.invented()

    def number(self, digits=None) -> str:
        """A whole number of one to five digits."""
        def make():
            count = digits or self.one([1, 2, 2, 2, 3, 3, 4, 5])
            return str(self.rng.randint(10 ** (count - 1), 10 ** count - 1))
        return make() if digits == 1 else self.split(make)

    def price(self) -> str:
        amount = self.number() + (f".{self.rng.randint(0, 9)}{self.one('059')}" if self.chance(0.3) else "")
        return self.one(["{} dollars", "{} euros", "${}", "{} pounds"]).format(amount)

    def date(self) -> str:
        day, month, year = self.rng.randint(1, 28), self.one(MONTH), self.rng.randint(1700, 2060)
        forms = [f"{day} {month}", f"{month} {day}", f"{day} {month} {year}", f"{year}-{MONTH.index(month) + 1:02}-{day:02}"]
        return self.split(lambda: self.one(forms)) if not self.held_out else self.one(forms)

    def time(self) -> str:
        return f"{self.rng.randint(0, 23)}:{self.one(['00', '15', '30', '45', '10', '20'])}"

    def code(self) -> str:
        """A mixed code such as "QX-417" or a password-like word."""
        def make():
            letters = "".join(self.one("ABCDEFGHJKLMNPQRSTUVWXYZ") for _ in range(self.rng.randint(1, 3)))
            forms = [f"{letters}-{self.rng.randint(1, 999)}", f"{letters}{self.rng.randint(1, 9999)}",
                     f"{self.syllables()}{self.rng.randint(1, 99)}", self.syllables(2, 3)]
            return self.one(forms)
        return self.split(make)

    def word(self) -> str:
        """A lower-case word: mostly a thing, sometimes invented."""
        return self.split(self.syllables) if self.chance(0.15) else self.one(THING)

    def thing(self) -> str:
        """A noun phrase without an article."""
        return f"{self.one(ADJECTIVE)} {self.word()}" if self.chance(0.4) else self.word()

    def phrase(self, least=2, most=6) -> str:
        """A few lower-case words without grammar, as a search query has them."""
        pool = THING + PLACE + ADJECTIVE + ANIMAL + FOOD + JOB + COLOUR
        def make():
            count = self.rng.randint(least, most)
            return " ".join(self.syllables() if self.chance(0.08) else self.one(pool) for _ in range(count))
        return self.split(make)
