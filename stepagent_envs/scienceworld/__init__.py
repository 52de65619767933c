"""ScienceWorld: 30 elementary-school science tasks in a text world, on the original simulator."""
