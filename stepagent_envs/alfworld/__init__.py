"""ALFWorld: household tasks in text, with the official games' exact behaviour at a small part of their cost."""
