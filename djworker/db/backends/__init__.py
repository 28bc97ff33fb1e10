"""Django's database backends on a green pool. Thin: what is asked of a database is Django's business."""
