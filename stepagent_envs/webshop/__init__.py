"""WebShop: buy what an instruction asks for, in a shop with a search engine."""
