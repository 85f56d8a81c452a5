"""Who may log in: the lines of users_file, their password hashes, the file itself."""
