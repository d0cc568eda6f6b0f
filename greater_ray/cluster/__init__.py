"""Everything that needs Ray: pools of model replicas, the broker of their work, and grids whose cells call them."""

import logging

# While Ray is imported in a notebook it asks for widgets that nothing here uses.
logging.getLogger("ray.widgets.util").setLevel(logging.WARNING)
