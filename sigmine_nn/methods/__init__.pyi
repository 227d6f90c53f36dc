# The recipes, and the file of each: read by type checkers, and by lazy_loader at run time.
__all__: list[str] = []
