"""Waiting for what the thread that computes gives, or for the client to leave."""

import asyncio

from files.errors import InputError
from serving.batching import Busy, Closed
from serving.metrics import LEFT
from serving.predictor import NoNumber


async def found_by(request, submit):
    """What the Future of `submit()` gives. Raises HTTPException: it can't be had, or the client has left.

    What the model refuses is the asker's mistake, but for what its weights are to blame for.
    """
    from fastapi import HTTPException

    try:
        work = submit()
        found = asyncio.wrap_future(work)
        left = asyncio.ensure_future(request.receive())  # nothing comes after the body but the end
        await asyncio.wait((found, left), return_when=asyncio.FIRST_COMPLETED)
        left.cancel()
        if work.cancel():
            raise HTTPException(LEFT, "the client has left")
        return await found
    except Busy as error:
        raise HTTPException(503, str(error), {"Retry-After": str(error.seconds)}) from None
    except Closed as error:
        raise HTTPException(503, str(error), {"Connection": "close"}) from None
    except NoNumber:
        raise HTTPException(500, "the model's weights are damaged: no number (NaN or infinity) comes out") from None
    except InputError as error:
        raise HTTPException(422, str(error)) from None
