"""The commands of POP3, a file for each family."""
