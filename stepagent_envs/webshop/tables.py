"""What the built-in shop's products are made of: words, written for this package.

A kind of product is a line of fields separated by "|":
query | category path | names in titles | cheapest and dearest price | attributes | options | styles.
An attribute is written as instructions use it: plain before the product, "+" after "with", ">" after "for".
An option is "name=pool" (see `POOLS`). Changing a word changes the frozen data hash.
"""

# ruff: noqa: E501

from __future__ import annotations

__all__ = ["BRAND_ENDS", "BRAND_STARTS", "DESCRIPTIONS", "FEATURES", "KINDS", "OPENERS", "POOLS", "REVIEWS"]

BRAND_STARTS = [
    "Nor",
    "Vel",
    "Bri",
    "Cal",
    "Dun",
    "El",
    "Fen",
    "Gar",
    "Hol",
    "Ith",
    "Jor",
    "Kel",
    "Lum",
    "Mar",
    "Nim",
    "Or",
    "Pel",
    "Quen",
    "Ros",
    "Sil",
    "Tam",
    "Ul",
    "Ver",
    "Wen",
    "Yar",
    "Zeph",
    "Alba",
    "Corv",
]
BRAND_ENDS = [
    "vane",
    "mont",
    "ley",
    "ora",
    "dale",
    "wick",
    "ton",
    "ina",
    "mere",
    "lux",
    "a",
    "way",
    "nest",
    "field",
    "kin",
    "bo",
    "sa",
    "ria",
    "well",
    "co",
]

POOLS: dict[str, tuple[str, ...]] = {
    "color": ("black", "white", "navy", "grey", "red", "blue", "green", "pink", "purple", "beige", "brown", "wine"),
    "finish": ("black", "white", "walnut", "oak", "espresso", "natural", "grey wash", "rustic brown", "cherry"),
    "metal": ("black", "silver", "gold", "rose gold", "space grey", "bronze", "matte white"),
    "clothing": ("x-small", "small", "medium", "large", "x-large", "xx-large", "3x-large"),
    "shoe": ("6", "6.5", "7", "7.5", "8", "8.5", "9", "10", "11", "12"),
    "shade": ("ivory", "fair", "light beige", "warm sand", "honey", "caramel", "almond", "deep cocoa"),
    "lip": ("cherry", "nude pink", "coral", "plum", "mauve", "berry", "peach", "brick red"),
    "hair": ("jet black", "dark brown", "light brown", "honey blonde", "ash blonde", "auburn", "burgundy"),
    "scent": ("lavender", "vanilla", "coconut", "eucalyptus", "rose", "citrus", "unscented", "sandalwood"),
    "volume": ("1 fl oz", "2 fl oz", "4 fl oz", "8 fl oz", "12 fl oz", "16 fl oz"),
    "weight": ("4 ounce", "6 ounce", "8 ounce", "12 ounce", "1 pound", "2 pound"),
    "pack": ("pack of 1", "pack of 2", "pack of 3", "pack of 4", "pack of 6", "pack of 12"),
    "sweet": ("chocolate", "vanilla", "strawberry", "peanut butter", "maple", "cinnamon", "salted caramel", "mint"),
    "savory": (
        "sea salt",
        "barbecue",
        "sour cream",
        "jalapeno",
        "cheddar",
        "garlic herb",
        "black pepper",
        "chili lime",
    ),
    "tea": (
        "earl grey",
        "peppermint",
        "chamomile",
        "green tea",
        "ginger lemon",
        "jasmine",
        "hibiscus",
        "english breakfast",
    ),
    "roast": ("light roast", "medium roast", "dark roast", "decaf", "hazelnut", "french vanilla"),
    "cable": ("3 feet", "6 feet", "10 feet", "15 feet", "25 feet", "50 feet"),
    "storage": ("32 gb", "64 gb", "128 gb", "256 gb", "512 gb", "1 tb"),
    "phone": ("iphone 11", "iphone 12", "iphone 13", "galaxy s20", "galaxy s21", "pixel 6"),
    "screen": ("60 inch", "80 inch", "100 inch", "120 inch", "150 inch"),
    "bed": ("twin", "twin xl", "full", "queen", "king", "california king"),
    "rug": ("2 ft x 3 ft", "3 ft x 5 ft", "5 ft x 7 ft", "8 ft x 10 ft", "9 ft x 12 ft"),
    "pillow": ('16" x 16"', '18" x 18"', '20" x 20"', '24" x 24"', '12" x 20"'),
    "curtain": ('52" x 63"', '52" x 84"', '52" x 96"', '42" x 63"', '42" x 84"'),
    "fit": ("men", "women", "youth"),
    "width": ("narrow", "regular", "wide"),
    "pattern": ("striped", "plaid", "floral", "solid", "polka dot", "tie dye"),
    "count": ("10 count", "20 count", "50 count", "100 count", "200 count"),
    "shape": ("round", "square", "rectangular", "oval", "half circle"),
    "plug": ("us plug", "uk plug", "eu plug", "battery powered"),
    "edition": ("standard", "lite", "pro", "max", "mini"),
    "zoom": ("8x21", "8x32", "10x25", "10x42", "12x50"),
    "thickness": ("6 inch", "8 inch", "10 inch", "12 inch", "14 inch"),
    "tiers": ("3 tier", "4 tier", "5 tier", "6 tier"),
    "light": ("warm white", "soft white", "daylight", "cool white"),
}

KINDS: tuple[str, ...] = (
    # fashion
    "women's dresses|Clothing, Shoes & Jewelry › Women › Clothing › Dresses › Casual|Midi Dress;Sundress;Wrap Dress|16|60|"
    "machine wash,hand wash,loose fit,+long sleeve,+short sleeve,+elastic waist,+polyester spandex,>daily wear|"
    "color=color,size=clothing|Bohemian;Vintage;Floral;Summer",
    "women's tops, tees & blouses|Clothing, Shoes & Jewelry › Women › Clothing › Tops, Tees & Blouses|Blouse;Tunic;T-Shirt|"
    "9|35|loose fit,light weight,hand wash,quick drying,+short sleeve,+long sleeve,+button closure,>teen girls|"
    "color=color,size=clothing|Casual;Graphic;Summer;Floral",
    "women's pumps|Clothing, Shoes & Jewelry › Women › Shoes › Pumps|Pumps;Heels;Dress Shoes|22|110|"
    "open toe,non slip,closed toe,+ankle strap,+memory foam,+rubber sole,+high heel,>wedding party|color=color,size=shoe|"
    "Elegant;Classic;Pointed;Platform",
    "women's swimsuits & cover ups|Clothing, Shoes & Jewelry › Women › Clothing › Swimsuits & Cover Ups|Swimsuit;Tankini;"
    "Bikini Set|14|48|quick drying,hand wash,slim fit,+tummy control,+high waist,+long sleeve,+nylon spandex,>beach wear|"
    "color=color,size=clothing|Tropical;Ruffled;Sporty;Retro",
    "men's t-shirts & tanks|Clothing, Shoes & Jewelry › Men › Clothing › Shirts|T-Shirt;Tank Top;Tee|8|32|machine wash,"
    "slim fit,officially licensed,wash cold,+heathers cotton,+needle sleeve,+classic fit,>gym workout|"
    "fit type=fit,color=color,size=clothing|Graphic;Athletic;Vintage;Pocket",
    "men's shorts|Clothing, Shoes & Jewelry › Men › Clothing › Shorts|Cargo Shorts;Running Shorts;Board Shorts|12|42|"
    "quick drying,machine wash,moisture wicking,slim fit,+elastic waist,+drawstring closure,+nylon spandex,>gym workout|"
    "color=color,size=clothing|Casual;Athletic;Hiking;Summer",
    "men's dress shirts|Clothing, Shoes & Jewelry › Men › Clothing › Shirts › Dress Shirts|Dress Shirt;Button Down Shirt|18|"
    "65|machine wash,slim fit,easy care,regular fit,+cotton spandex,+long sleeve,+short sleeve,>everyday wear|"
    "color=color,size=clothing,pattern=pattern|Oxford;Business;Formal;Casual",
    "men's loafers & slip-ons|Clothing, Shoes & Jewelry › Men › Shoes › Loafers & Slip-Ons|Loafers;Slip-On Shoes|25|95|"
    "non slip,slip resistant,light weight,leather lined,+rubber sole,+arch support,+memory foam,>work shoes|"
    "color=color,size=shoe,width=width|Penny;Driving;Canvas;Suede",
    "men's sweaters|Clothing, Shoes & Jewelry › Men › Clothing › Sweaters|Sweater;Cardigan;Pullover|20|75|machine wash,"
    "hand wash,slim fit,winter warm,+long sleeve,+button closure,+cotton spandex,>daily wear|color=color,size=clothing|"
    "Cable Knit;Turtleneck;Crewneck;Ribbed",
    "women's hoodies & sweatshirts|Clothing, Shoes & Jewelry › Women › Clothing › Fashion Hoodies & Sweatshirts|Hoodie;"
    "Sweatshirt|15|50|machine wash,loose fit,light weight,winter warm,+long sleeve,+drawstring closure,+fleece lining,"
    ">teen girls|color=color,size=clothing|Oversized;Cropped;Pullover;Zip Up",
    # beauty
    "lip makeup|Beauty & Personal Care › Makeup › Lips|Lipstick;Lip Gloss;Lip Stain|6|26|cruelty free,long lasting,"
    "paraben free,highly pigmented,+hyaluronic acid,+natural ingredients,+matte finish,>dry lips|color=lip|Velvet;Liquid;"
    "Satin;Shimmer",
    "face makeup|Beauty & Personal Care › Makeup › Face|Foundation;Concealer;Pressed Powder|9|38|cruelty free,oil free,"
    "long lasting,fragrance free,+hyaluronic acid,+spf protection,+medium coverage,>sensitive skin|color=shade,size=volume|"
    "Mineral;Liquid;Cushion;Cream",
    "body care|Beauty & Personal Care › Skin Care › Body|Body Lotion;Body Butter;Body Wash|7|30|cruelty free,paraben free,"
    "dermatologist tested,alcohol free,+shea butter,+tea tree,+coconut oil,>dry skin|scent=scent,size=volume|Whipped;"
    "Hydrating;Daily;Nourishing",
    "face serums|Beauty & Personal Care › Skin Care › Face|Face Serum;Face Cream;Moisturizer|11|55|anti aging,"
    "fragrance free,cruelty free,oil free,+vitamin c,+hyaluronic acid,+green tea,>fine lines|size=volume,style=pack|"
    "Brightening;Overnight;Firming;Daily",
    "hair masks|Beauty & Personal Care › Hair Care › Hair Masks|Hair Mask;Deep Conditioner|9|34|sulfate free,"
    "cruelty free,paraben free,color safe,+argan oil,+coconut oil,+keratin,>damaged hair|scent=scent,size=volume|Repair;"
    "Moisture;Protein;Curl",
    "hair extensions|Beauty & Personal Care › Hair Care › Hair Extensions & Wigs|Hair Extensions;Wig;Clip In Ponytail|14|"
    "90|high quality,easy to use,heat resistant,double weft,+natural hair,+synthetic hair,+adjustable cap,>hair loss|"
    "color=hair,style=count|Wavy;Straight;Curly;Layered",
    "hair coloring products|Beauty & Personal Care › Hair Care › Hair Coloring|Hair Color;Root Touch Up;Hair Dye|7|28|"
    "permanent,ammonia free,long lasting,easy to use,+argan oil,+natural ingredients,+shea butter,>gray coverage|"
    "color=hair,size=pack|Cream;Foam;Liquid;Semi Matte",
    "deodorants & antiperspirants|Beauty & Personal Care › Personal Care › Deodorants|Deodorant Stick;Antiperspirant|5|22|"
    "aluminum free,alcohol free,long lasting,cruelty free,+baking soda,+tea tree,+coconut oil,>sensitive skin|"
    "scent=scent,size=pack|Natural;Clinical;Fresh;Sport",
    "toothbrushes & accessories|Beauty & Personal Care › Oral Care › Toothbrushes|Toothbrush;Electric Toothbrush|6|60|"
    "easy to use,eco friendly,high quality,bpa free,+soft bristles,+bamboo handle,+travel case,>sensitive teeth|"
    "color=color,size=pack|Sonic;Manual;Slim;Family",
    "makeup brushes & tools|Beauty & Personal Care › Tools & Accessories › Makeup Brushes|Makeup Brush Set;Blending Sponge;"
    "Brush|6|40|cruelty free,easy to clean,travel size,double sided,+synthetic bristles,+storage case,+wooden handle,"
    ">eye shadow|color=metal,size=count|Kabuki;Professional;Angled;Mini",
    # grocery
    "snack bars|Grocery & Gourmet Food › Snack Foods › Bars|Protein Bars;Granola Bars;Snack Bars|8|36|gluten free,non gmo,"
    "low sugar,soy free,plant based,+high protein,+natural ingredients,+dietary fiber|flavor name=sweet,size=pack|Crunchy;"
    "Chewy;Soft Baked;Nutty",
    "chips & crisps|Grocery & Gourmet Food › Snack Foods › Chips & Crisps|Potato Chips;Tortilla Chips;Veggie Crisps|5|30|"
    "gluten free,non gmo,low sodium,kosher certified,dairy free,+simple ingredients,+avocado oil,>snack time|"
    "flavor name=savory,size=weight|Kettle;Baked;Ripple;Stone Ground",
    "jerky & meat snacks|Grocery & Gourmet Food › Snack Foods › Jerky|Beef Jerky;Turkey Jerky;Meat Sticks|8|40|"
    "gluten free,grass fed,low carb,sugar free,keto friendly,+high protein,+natural flavors|flavor name=savory,size=pack|"
    "Smoked;Tender;Thick Cut;Spicy",
    "tea|Grocery & Gourmet Food › Beverages › Tea|Tea Bags;Loose Leaf Tea;Herbal Tea|5|28|caffeine free,usda organic,"
    "non gmo,kosher certified,sugar free,+natural flavors,+vitamin c,>good sleep|flavor name=tea,size=count|Garden;Wellness;"
    "Morning;Blended",
    "coffee|Grocery & Gourmet Food › Beverages › Coffee|Ground Coffee;Whole Bean Coffee;Coffee Pods|8|45|fair trade,"
    "usda organic,gluten free,low acid,single serve,+arabica beans,+natural flavors,>cold brew|flavor name=roast,size=weight|"
    "Breakfast;Mountain;Espresso;Estate",
    "nut butters|Grocery & Gourmet Food › Condiments › Nut Butters|Almond Butter;Peanut Butter;Cashew Butter|6|30|"
    "gluten free,non gmo,sugar free,keto friendly,soy free,+simple ingredients,+sea salt|flavor name=sweet,size=weight|"
    "Creamy;Crunchy;Stone Ground;Whipped",
    "breakfast cereals|Grocery & Gourmet Food › Breakfast Foods › Cereals|Granola;Muesli;Oatmeal|5|28|gluten free,"
    "usda organic,low sugar,nut free,non gmo,+whole grain,+dietary fiber,>quick breakfast|flavor name=sweet,size=pack|"
    "Toasted;Overnight;Ancient Grain;Honest",
    "pasta & noodles|Grocery & Gourmet Food › Pasta & Noodles|Ramen Noodles;Penne Pasta;Rice Noodles|5|32|gluten free,"
    "low carb,non gmo,easy to prepare,plant based,+high protein,+artificial flavors free,>quick meals|"
    "flavor name=savory,size=pack|Fresh;Whole Wheat;Chickpea;Air Dried",
    "candy & chocolate|Grocery & Gourmet Food › Snack Foods › Candy & Chocolate|Dark Chocolate;Gummies;Caramels|5|34|"
    "gluten free,sugar free,dairy free,kosher certified,individually wrapped,+natural flavors,+sea salt,>gift baskets|"
    "flavor name=sweet,size=weight|Artisan;Bite Size;Assorted;Holiday",
    "seasonings & spices|Grocery & Gourmet Food › Condiments › Seasonings|Seasoning Blend;Spice Rub;Salt Grinder|4|24|"
    "gluten free,low sodium,non gmo,gmo free,kosher certified,+natural ingredients,+sea salt,>grilled meat|"
    "flavor name=savory,size=weight|Smoky;Coarse;All Purpose;Island",
    # electronics
    "hdmi cables|Electronics › Accessories & Supplies › Audio & Video Accessories › Cables|HDMI Cable;Video Cable|6|35|"
    "gold plated,high speed,ultra hd,plug and play,+ethernet,+nylon braid,+aluminum shell,>game console|"
    "color=color,size=cable|Braided;Flat;Angled;Slim",
    "headphones|Electronics › Headphones|Headphones;Earbuds;Headset|15|120|noise cancelling,fast charging,water resistant,"
    "hands free,+stereo sound,+long battery life,+charging case,>gym workout|color=metal,style=edition|Wireless;Over Ear;"
    "Sport;Studio",
    "phone cases|Cell Phones & Accessories › Cases, Holsters & Sleeves|Phone Case;Wallet Case;Bumper|7|30|heavy duty,"
    "shock proof,water resistant,easy install,+wireless charging,+card holder,+tempered glass,>daily use|"
    "color=color,size=phone|Clear;Leather;Slim;Armored",
    "screen protectors|Cell Phones & Accessories › Screen Protectors|Screen Protector;Privacy Film|6|22|easy install,"
    "case friendly,high definition,anti scratch,+tempered glass,+alignment frame,+oleophobic coating,>face unlock|"
    "size=phone,style=pack|Edge;Matte;Privacy;Clear",
    "projectors|Electronics › Television & Video › Video Projectors|Projector;Mini Projector|55|400|high definition,"
    "easy to carry,ultra hd,high performance,+stereo sound,+usb port,+remote control,>home theater|color=metal,style=plug|"
    "Portable;Laser;Outdoor;Smart",
    "projection screens|Electronics › Television & Video › Projection Screens|Projector Screen;Pull Down Screen|30|220|"
    "easy install,ultra hd,wall mounted,wrinkle free,+aspect ratio lock,+carrying bag,+remote control,>home theater|"
    "size=screen,style=shape|Foldable;Motorized;Tripod;Fixed Frame",
    "power banks|Cell Phones & Accessories › Chargers & Power Adapters|Power Bank;Portable Charger|14|70|fast charging,"
    "high capacity,light weight,easy to carry,+usb port,+led display,+wireless charging,>travel use|color=metal,size=pack|"
    "Slim;Rugged;Compact;Solar",
    "tablet accessories|Electronics › Computers & Accessories › Tablet Accessories|Tablet Stand;Tablet Keyboard;Tablet Case|"
    "12|80|easy to use,heavy duty,non slip,hands free,+aluminum alloy,+bluetooth connection,+pen holder,>video calls|"
    "color=metal,style=edition|Folding;Magnetic;Desktop;Universal",
    "memory cards|Electronics › Computers & Accessories › Memory Cards|Memory Card;Flash Drive|8|90|high speed,"
    "water resistant,plug and play,high performance,+data recovery,+metal casing,+usb port,>action cameras|"
    "color=metal,size=storage|Pro;Compact;Dual;Turbo",
    "binoculars & scopes|Electronics › Camera & Photo › Binoculars & Scopes|Binoculars;Monocular;Spotting Scope|25|180|"
    "easy to carry,high power,water resistant,light weight,+phone adapter,+carrying case,+tripod mount,>bird watching|"
    "color=color,size=zoom|Compact;Marine;Night;Trail",
    # garden
    "decorative pillows|Home & Kitchen › Bedding › Decorative Pillows, Inserts & Covers|Throw Pillow Cover;Cushion Cover|8|"
    "36|machine washable,double sided,super soft,eco friendly,+printing technology,+hidden zipper,+faux fur,>living room|"
    "color=color,size=pillow|Geometric;Boho;Farmhouse;Velvet",
    "mattresses|Home & Kitchen › Furniture › Bedroom Furniture › Mattresses|Mattress;Mattress Topper|90|700|queen ready,"
    "high density,assembly free,ready to use,+memory foam,+cooling gel,+removable cover,>back pain|size=bed,style=thickness|"
    "Hybrid;Plush;Firm;Medium Firm",
    "floor lamps|Home & Kitchen › Lighting & Ceiling Fans › Lamps & Shades|Floor Lamp;Reading Lamp|35|160|easy assemble,"
    "mid century,space saving,energy efficient,+glass shade,+bronze finish,+remote control,>living room|"
    "color=metal,style=light|Arc;Tripod;Industrial;Torchiere",
    "console tables|Home & Kitchen › Furniture › Living Room Furniture › Tables|Console Table;Sofa Table;Entryway Table|70|"
    "380|easy assemble,space saving,heavy duty,fully assembled,+metal legs,+storage space,+solid wood,>living room|"
    "color=finish,size=shape|Narrow;Rustic;Farmhouse;Industrial",
    "bedframes|Home & Kitchen › Furniture › Bedroom Furniture › Beds|Bed Frame;Platform Bed|110|600|easy assemble,"
    "heavy duty,box spring free,white item,+storage space,+button tufted headboard,+wood slats,>guest room|"
    "color=finish,size=bed|Upholstered;Metal;Mission;Low Profile",
    "area rugs|Home & Kitchen › Home Décor › Rugs|Area Rug;Runner Rug|25|240|machine washable,non slip,easy clean,"
    "stain resistant,+polyester pile,+jute backing,+fade resistant yarn,>dining room|color=color,size=rug,shape=shape|Shag;"
    "Oriental;Abstract;Braided",
    "window coverings|Home & Kitchen › Home Décor › Window Treatments|Blackout Curtains;Sheer Curtains;Roman Shade|14|70|"
    "machine washable,easy install,energy efficient,light filtering,+grommet top,+rod pocket,+thermal lining,>living room|"
    "color=color,size=curtain|Linen;Velvet;Printed;Plain",
    "candles|Home & Kitchen › Home Décor › Candles|Scented Candle;Pillar Candles;Candle Tin|7|38|lead free,long lasting,"
    "eco friendly,hand poured,+soy wax,+cotton wick,+essential oils,>gift baskets|scent=scent,size=weight|Woodland;Spa;"
    "Holiday;Cottage",
    "bath & bathing accessories|Home & Kitchen › Bath › Bathing Accessories|Bath Towel Set;Bath Mat;Shower Curtain|9|60|"
    "machine washable,quick drying,super soft,non slip,+cotton blend,+memory foam,+rust proof hooks,>guest bathroom|"
    "color=color,size=pack|Waffle;Spa;Striped;Quilted",
    "book cases|Home & Kitchen › Furniture › Home Office Furniture › Bookcases|Bookcase;Bookshelf;Ladder Shelf|45|320|"
    "easy assemble,space saving,heavy duty,wall mounted,+storage space,+metal frame,+open shelves,>home office|"
    "color=finish,size=tiers|Corner;Five Tier;Modern;Industrial",
)

FEATURES: dict[str, tuple[str, ...]] = {
    "": ("{A} quality you can rely on", "{A}, day after day", "Known to be {a}", "{A} by design"),
    "+": ("Comes with {a}", "Made with {a} that lasts", "Now with {a}", "{A} included"),
    ">": ("Made for {a}", "A good choice for {a}", "Our favorite for {a}", "Tested for {a}"),
}
"""Sentences about an attribute, by how instructions use it."""

OPENERS = (
    "A {style} choice for every home.",
    "Our best selling {style} line.",
    "Thoughtfully made {style} design.",
    "The {style} favorite of the season.",
)

DESCRIPTIONS = (
    "The {brand} {name} brings a {style} touch to your day. {A} and packed with care.",
    "Meet the {style} {name} by {brand}. {A}, and we stand behind it with a one year warranty.",
    "{brand} has made {query} for years. {A}, this {name} makes a thoughtful gift.",
)

REVIEWS = (
    ("Just right", 5, "Exactly as described, and it arrived on time."),
    ("Good value", 4, "Does what it should for the price."),
    ("Not for me", 2, "It was smaller than I had expected."),
    ("Would buy again", 5, "My second one, and as good as the first."),
    ("Fine", 3, "Decent, though the color differs a little from the picture."),
)
