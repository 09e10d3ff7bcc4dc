"""Whom command line tools ask: a model of a GenPlat that runs, one in an inference service of our
own, or a service LLM. `open_answerer` finds out which."""

from gateway.answering.answerer import Answerer, AnswersEnded
from gateway.answering.opening import Place, open_answerer

__all__ = ["Answerer", "AnswersEnded", "Place", "open_answerer"]
