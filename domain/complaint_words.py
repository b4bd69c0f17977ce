"""The closed lists of a complaint case: channels, categories, stages, remedies. Stored by their values for ever."""

from enum import StrEnum


class Channel(StrEnum):
    """How the complaint came in (CC-01). `telephone` stands for the word lost between two commas (L6)."""

    WEB_CHAT = "web_chat"  # 商务通
    TELEPHONE = "telephone"
    FACE_TO_FACE = "face_to_face"
    LETTER = "letter"
    FAX = "fax"
    VISIT = "visit"
    QQ = "qq"
    EMAIL = "email"
    PETITION = "petition"  # 信访
    HOTLINE_12345 = "hotline_12345"
    OTHER = "other"


class Category(StrEnum):
    """What the complaint is about; attitude and quality are the least any list must have (CC-18)."""

    SERVICE_ATTITUDE = "service_attitude"
    SERVICE_QUALITY = "service_quality"
    MEDICAL = "medical"
    FEES = "fees"
    ENVIRONMENT = "environment"
    OTHER = "other"


class Severity(StrEnum):
    """How grave it is; `major` disputes are told to leadership at once (CC-19)."""

    ORDINARY = "ordinary"
    SERIOUS = "serious"
    MAJOR = "major"


class Stage(StrEnum):
    """How far the case has come (requirements §10)."""

    RECEIVED = "received"
    INVESTIGATING = "investigating"
    INVESTIGATED = "investigated"
    QUALIFIED = "qualified"
    PLAN_PROPOSED = "plan_proposed"
    NEGOTIATING = "negotiating"
    DISPUTED = "disputed"
    AGREED = "agreed"
    SETTLED = "settled"
    CLOSED = "closed"
    INTERNALLY_HANDLED = "internally_handled"
    IMPROVING = "improving"
    IMPROVED = "improved"
    FOLLOWING_UP = "following_up"
    FINISHED = "finished"


class Settlement(StrEnum):
    """Which formalities the outcome needs (CC-30, CC-31, CC-70)."""

    NONE = "none"
    REFUND = "refund"
    COMPENSATION = "compensation"


class Remedy(StrEnum):
    """What was obtained for the patient (CC-63)."""

    EXPLANATION = "explanation"
    APOLOGY = "apology"
    RE_TREATMENT = "re_treatment"
    DISCOUNT = "discount"
    REFUND = "refund"
    COMPENSATION = "compensation"


class Payment(StrEnum):
    """How money goes back to the patient (CC-68, CC-69)."""

    CASH = "cash"
    BANK_TRANSFER = "bank_transfer"


class EscalationLevel(StrEnum):
    """To whom a case is taken up (CC-17, CC-18, CC-51)."""

    DEPARTMENT_MANAGER = "department_manager"
    CS_DIRECTOR = "cs_director"
    CS_CHIEF = "cs_chief"
    LEADERSHIP = "leadership"
