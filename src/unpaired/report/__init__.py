"""What a person sees: plots and the HTML page."""
