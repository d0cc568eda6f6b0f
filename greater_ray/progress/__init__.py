"""A run or a grid while it goes on: on a terminal, in a notebook, as plain lines; and how it is stopped politely."""
