"""A page to listen to rows on, made for one question: is my data right?"""
