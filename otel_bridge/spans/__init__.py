"""From an exchange to its span: what all spans share, and a module for each kind of exchange."""
