"""Add-ons beside the flow; the core imports none of them."""
