import purerpc
import inferencegw.v1.gateway_pb2 as inferencegw_dot_v1_dot_gateway__pb2
import inferencegw.v1.replica_pb2 as inferencegw_dot_v1_dot_replica__pb2


class InferenceGatewayServicer(purerpc.Servicer):
    async def Infer(self, input_message):
        raise NotImplementedError()

    @property
    def service(self) -> purerpc.Service:
        service_obj = purerpc.Service(
            "inferencegw.v1.InferenceGateway"
        )
        service_obj.add_method(
            "Infer",
            self.Infer,
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_STREAM,
                inferencegw_dot_v1_dot_gateway__pb2.InferRequest,
                inferencegw_dot_v1_dot_gateway__pb2.InferResponse,
            )
        )
        return service_obj


class InferenceGatewayStub:
    def __init__(self, channel):
        self._client = purerpc.Client(
            "inferencegw.v1.InferenceGateway",
            channel
        )
        self.Infer = self._client.get_method_stub(
            "Infer",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_STREAM,
                inferencegw_dot_v1_dot_gateway__pb2.InferRequest,
                inferencegw_dot_v1_dot_gateway__pb2.InferResponse,
            )
        )