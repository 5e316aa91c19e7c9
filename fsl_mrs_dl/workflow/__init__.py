"""From a scanner's file to a table: one session, and a study of many."""
