"""Small applications that real HTTP servers run in the end-to-end tests."""
