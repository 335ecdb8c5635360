"""Every promise of a row and of a built folder, checked on its bytes."""
