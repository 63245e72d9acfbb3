"""What is kept of annotations: tables and settings. `annotating` speaks for them."""
