"""What a person comes in with (凭证): the scopes a token may be given."""

from __future__ import annotations

from enum import StrEnum


class Scope(StrEnum):
    """What a token lets its holder do at most; what they may do is decided by their posts, as ever."""

    ASK = "ask"  # 查询
    DECIDE = "decide"  # 操作
    OWN_DOCUMENTS = "own_documents"  # 自拟文档
