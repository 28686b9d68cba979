import purerpc
import inferencegw.v1.manager_pb2 as inferencegw_dot_v1_dot_manager__pb2


class ReplicaManagerServicer(purerpc.Servicer):
    async def Stop(self, input_message):
        raise NotImplementedError()

    async def Start(self, input_message):
        raise NotImplementedError()

    @property
    def service(self) -> purerpc.Service:
        service_obj = purerpc.Service(
            "inferencegw.v1.ReplicaManager"
        )
        service_obj.add_method(
            "Stop",
            self.Stop,
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                inferencegw_dot_v1_dot_manager__pb2.StopRequest,
                inferencegw_dot_v1_dot_manager__pb2.StopResponse,
            )
        )
        service_obj.add_method(
            "Start",
            self.Start,
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                inferencegw_dot_v1_dot_manager__pb2.StartRequest,
                inferencegw_dot_v1_dot_manager__pb2.StartResponse,
            )
        )
        return service_obj


class ReplicaManagerStub:
    def __init__(self, channel):
        self._client = purerpc.Client(
            "inferencegw.v1.ReplicaManager",
            channel
        )
        self.Stop = self._client.get_method_stub(
            "Stop",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                inferencegw_dot_v1_dot_manager__pb2.StopRequest,
                inferencegw_dot_v1_dot_manager__pb2.StopResponse,
            )
        )
        self.Start = self._client.get_method_stub(
            "Start",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                inferencegw_dot_v1_dot_manager__pb2.StartRequest,
                inferencegw_dot_v1_dot_manager__pb2.StartResponse,
            )
        )