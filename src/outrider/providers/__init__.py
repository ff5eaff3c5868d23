"""How providers are spoken to: transports, wire formats, and the table of vendors."""
