"""A search engine for questions: the most similar questions of a FAQ, by cosine.

Usage: python faq_search.py [PORT PORT_OUT] < QUESTIONS

Every line of the input is a question.
"""

import sys

import numpy as np

from bert_serving.client import BertClient

PORT, PORT_OUT = map(int, sys.argv[1:3]) if len(sys.argv) > 2 else (5555, 5556)
TOP_K = 3

FAQ = [
    "How do I change my password?",
    "Where can I see my invoices?",
    "How can I delete my account?",
    "Which payment methods do you accept?",
    "Is there a discount for students?",
    "How do I invite somebody to my team?",
    "What happens when my trial ends?",
    "Can I export my data?",
]


def unit(vectors):
    """Scaled to length 1, so that a product is a cosine."""
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


with BertClient(port=PORT, port_out=PORT_OUT) as bc:
    documents = unit(bc.encode(FAQ))
    print("%d questions known" % len(FAQ))
    for line in sys.stdin:
        query = line.strip()
        if not query:
            continue
        scores = documents @ unit(bc.encode([query]))[0]
        print("> %s" % query)
        for place in np.argsort(scores)[::-1][:TOP_K]:
            print("%6.3f  %s" % (scores[place], FAQ[place]))
