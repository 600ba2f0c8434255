"""Language models behind an HTTP interface: any server that is compatible with the completions API of OpenAI.

Such a server shows little of a model: the most likely next tokens, sampled text, and, on some servers, the
log-probabilities of the tokens of a given text. Nothing else is assumed, and nothing that is missing is filled in.
"""

from lmzoo.interchange.remote.evaluation import RemoteEvaluation, remote_evaluation
from lmzoo.interchange.remote.model import RemoteModel, TopTokens
from lmzoo.interchange.remote.surprisals import RemoteSurprisal, RemoteSurprisals

__all__ = ["RemoteEvaluation", "RemoteModel", "RemoteSurprisal", "RemoteSurprisals", "TopTokens", "remote_evaluation"]
