"""The log of reads over GraphQL: who saw whose personal data unmasked, when, for what, through which glass."""

from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

import strawberry

from api.context import Context, Info
from api.page import After, Before, Connection, First, Last, connection
from api.scalars import BigInt
from projections.page import Slice
from projections.read_log import ReadFilter, ReadRow, count_of_reads, page_of_reads


@strawberry.type(description="查阅记录 – one read of personal data: stored before the answer left, and never changed.")
class PersonalRead(ReadRow):
    """One entry of the log."""

    institution: strawberry.Private[str] = ""
    version: strawberry.Private[int] = 0
    recorded_at: strawberry.Private[datetime] = datetime(1970, 1, 1, tzinfo=UTC)
    entry: strawberry.Private[int]
    document: strawberry.Private[bytes]

    read_at: datetime = strawberry.field(description="查阅时间")
    reader: UUID = strawberry.field(description="查阅人")
    token_id: str = strawberry.field(description="令牌编号 – by which token they came in.")
    road: str = strawberry.field(description="question, command or subscription.")
    purpose: str | None = strawberry.field(description="查阅目的 – as the reader said it.")
    operation: str | None = strawberry.field(description="The operation's name, if the request named one.")
    correlation: str = strawberry.field(description="The request's correlation id.")
    view: str = strawberry.field(description="视图")
    fields: list[str] = strawberry.field(description="字段 – which columns were shown unmasked.")
    subjects: list[UUID] = strawberry.field(description="信息主体 – whose data it was.")
    glass: UUID | None = strawberry.field(description="紧急查看编号 – the broken glass that allowed it, if one did.")
    position: BigInt = strawberry.field(description="机构内位置 – what was shown is not newer.")  # pyright: ignore[reportGeneralTypeIssues, reportIncompatibleVariableOverride]  an int, shown as text

    @strawberry.field(description="SHA-256 of the document that asked, in hexadecimal.")
    def document_sha256(self) -> str:
        """Which document it was."""
        return self.document.hex()


async def reads_of(context: Context, which: ReadFilter, slice: Slice) -> Connection[PersonalRead]:
    """A page of the entries of the principal's institution."""
    async with context.reading() as database:
        page = await page_of_reads(database, context.institution, which, slice, PersonalRead)

    async def count() -> int:
        async with context.reading() as database:
            return await count_of_reads(database, context.institution, which)

    return connection(page, count)


@strawberry.type
class ReadQuery:
    """Questions about reads of personal data."""

    @strawberry.field(description="个人信息查阅记录 – who saw whose personal data unmasked, the latest first.")
    async def personal_reads(
        self,
        info: Info,
        subject: Annotated[
            UUID | None, strawberry.argument(description="信息主体 – only of this person's data.")
        ] = None,
        reader: Annotated[UUID | None, strawberry.argument(description="查阅人 – only by this person.")] = None,
        glass: Annotated[
            UUID | None, strawberry.argument(description="紧急查看编号 – only through this glass.")
        ] = None,
        read_from: Annotated[datetime | None, strawberry.argument(description="Included.")] = None,
        read_before: Annotated[datetime | None, strawberry.argument(description="Not included.")] = None,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
    ) -> Connection[PersonalRead]:
        """A page of the log."""
        context = info.context
        context.may_ask("personalReads")
        which = ReadFilter(subject=subject, reader=reader, glass=glass, read_from=read_from, read_before=read_before)
        return await reads_of(context, which, Slice(first, after, last, before))
