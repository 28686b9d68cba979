import purerpc
import inferencegw.v1.replica_pb2 as inferencegw_dot_v1_dot_replica__pb2


class LLMReplicaServicer(purerpc.Servicer):
    async def Generate(self, input_message):
        raise NotImplementedError()

    async def Drain(self, input_message):
        raise NotImplementedError()

    async def Undrain(self, input_message):
        raise NotImplementedError()

    async def GetInfo(self, input_message):
        raise NotImplementedError()

    @property
    def service(self) -> purerpc.Service:
        service_obj = purerpc.Service(
            "inferencegw.v1.LLMReplica"
        )
        service_obj.add_method(
            "Generate",
            self.Generate,
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_STREAM,
                inferencegw_dot_v1_dot_replica__pb2.GenerateRequest,
                inferencegw_dot_v1_dot_replica__pb2.GenerateResponse,
            )
        )
        service_obj.add_method(
            "Drain",
            self.Drain,
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                inferencegw_dot_v1_dot_replica__pb2.DrainRequest,
                inferencegw_dot_v1_dot_replica__pb2.DrainResponse,
            )
        )
        service_obj.add_method(
            "Undrain",
            self.Undrain,
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                inferencegw_dot_v1_dot_replica__pb2.UndrainRequest,
                inferencegw_dot_v1_dot_replica__pb2.UndrainResponse,
            )
        )
        service_obj.add_method(
            "GetInfo",
            self.GetInfo,
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                inferencegw_dot_v1_dot_replica__pb2.GetInfoRequest,
                inferencegw_dot_v1_dot_replica__pb2.GetInfoResponse,
            )
        )
        return service_obj


class LLMReplicaStub:
    def __init__(self, channel):
        self._client = purerpc.Client(
            "inferencegw.v1.LLMReplica",
            channel
        )
        self.Generate = self._client.get_method_stub(
            "Generate",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_STREAM,
                inferencegw_dot_v1_dot_replica__pb2.GenerateRequest,
                inferencegw_dot_v1_dot_replica__pb2.GenerateResponse,
            )
        )
        self.Drain = self._client.get_method_stub(
            "Drain",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                inferencegw_dot_v1_dot_replica__pb2.DrainRequest,
                inferencegw_dot_v1_dot_replica__pb2.DrainResponse,
            )
        )
        self.Undrain = self._client.get_method_stub(
            "Undrain",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                inferencegw_dot_v1_dot_replica__pb2.UndrainRequest,
                inferencegw_dot_v1_dot_replica__pb2.UndrainResponse,
            )
        )
        self.GetInfo = self._client.get_method_stub(
            "GetInfo",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                inferencegw_dot_v1_dot_replica__pb2.GetInfoRequest,
                inferencegw_dot_v1_dot_replica__pb2.GetInfoResponse,
            )
        )


class FaultInjectionServicer(purerpc.Servicer):
    async def InjectFault(self, input_message):
        raise NotImplementedError()

    async def ClearFaults(self, input_message):
        raise NotImplementedError()

    async def GetFaults(self, input_message):
        raise NotImplementedError()

    @property
    def service(self) -> purerpc.Service:
        service_obj = purerpc.Service(
            "inferencegw.v1.FaultInjection"
        )
        service_obj.add_method(
            "InjectFault",
            self.InjectFault,
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                inferencegw_dot_v1_dot_replica__pb2.InjectFaultRequest,
                inferencegw_dot_v1_dot_replica__pb2.InjectFaultResponse,
            )
        )
        service_obj.add_method(
            "ClearFaults",
            self.ClearFaults,
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                inferencegw_dot_v1_dot_replica__pb2.ClearFaultsRequest,
                inferencegw_dot_v1_dot_replica__pb2.ClearFaultsResponse,
            )
        )
        service_obj.add_method(
            "GetFaults",
            self.GetFaults,
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                inferencegw_dot_v1_dot_replica__pb2.GetFaultsRequest,
                inferencegw_dot_v1_dot_replica__pb2.GetFaultsResponse,
            )
        )
        return service_obj


class FaultInjectionStub:
    def __init__(self, channel):
        self._client = purerpc.Client(
            "inferencegw.v1.FaultInjection",
            channel
        )
        self.InjectFault = self._client.get_method_stub(
            "InjectFault",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                inferencegw_dot_v1_dot_replica__pb2.InjectFaultRequest,
                inferencegw_dot_v1_dot_replica__pb2.InjectFaultResponse,
            )
        )
        self.ClearFaults = self._client.get_method_stub(
            "ClearFaults",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                inferencegw_dot_v1_dot_replica__pb2.ClearFaultsRequest,
                inferencegw_dot_v1_dot_replica__pb2.ClearFaultsResponse,
            )
        )
        self.GetFaults = self._client.get_method_stub(
            "GetFaults",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                inferencegw_dot_v1_dot_replica__pb2.GetFaultsRequest,
                inferencegw_dot_v1_dot_replica__pb2.GetFaultsResponse,
            )
        )