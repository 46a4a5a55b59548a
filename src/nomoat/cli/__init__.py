"""The verbs. The only room that prints, reads the terminal or exits."""
