"""The machine side: agents and the adapters of the ports that services declare. No decisions here."""
