"""A protocol that exists for a test only: how much has to be touched for another one.

A client asks for a word in a line, `ASK word`, and the server answers in a line, `GOT word`. One folder, this
one, holds all of it: a C function, a reader, a description of spans, and the rows that put them to work.
"""
