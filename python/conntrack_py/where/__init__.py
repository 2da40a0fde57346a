"""`--where` and `--sort`: conditions on connections, and their order; one language for tables, streams and reports.

`language` makes a tree of a text, `kinds` knows the columns and reads values, `condition` gives masks, `order` places.
"""

from conntrack_py.where.condition import Condition, condition
from conntrack_py.where.order import key_of, order, ranks

__all__ = ("Condition", "condition", "key_of", "order", "ranks")
