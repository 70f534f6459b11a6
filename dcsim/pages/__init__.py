"""What renders our own pages from the code: the reference tables and the validation.

No part of the product at run time: nothing imports it, and wheels leave it out.
"""
