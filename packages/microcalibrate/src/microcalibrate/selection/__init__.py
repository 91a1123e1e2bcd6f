"""Which records stay: closed-form gates, their draw, and the other ways that it is set beside."""
