"""What a mold's interpreter runs before everything else: see ``sitecustomize`` here, which Python imports by that name."""
