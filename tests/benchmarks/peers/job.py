"""What every peer does to messages; how it moves them is its library's business."""

from inferencegw.v1 import gateway_pb2, replica_pb2


def replica_request(request: gateway_pb2.InferRequest) -> replica_pb2.GenerateRequest:
    """The replica's request for a client's."""
    return replica_pb2.GenerateRequest(request_id="bench", prompt=request.prompt, max_tokens=request.max_tokens)


def relayed(token: replica_pb2.GenerateResponse, replica_id: str) -> gateway_pb2.InferResponse:
    """The client's token for a replica's."""
    response = gateway_pb2.InferResponse(index=token.index, text=token.text, replica_id=replica_id, attempt=1)
    if token.is_final:
        response.is_final = True
        response.finish_reason = token.finish_reason
        response.usage.CopyFrom(token.usage)
    return response
