import purerpc
import inferencegw.v1.admin_pb2 as inferencegw_dot_v1_dot_admin__pb2
import inferencegw.v1.gossip_pb2 as inferencegw_dot_v1_dot_gossip__pb2


class GatewayAdminServicer(purerpc.Servicer):
    async def GetStatus(self, input_message):
        raise NotImplementedError()

    async def Watch(self, input_message):
        raise NotImplementedError()

    async def ListMembers(self, input_message):
        raise NotImplementedError()

    async def DrainReplica(self, input_message):
        raise NotImplementedError()

    async def UndrainReplica(self, input_message):
        raise NotImplementedError()

    async def Rollout(self, input_message):
        raise NotImplementedError()

    async def PauseRollout(self, input_message):
        raise NotImplementedError()

    async def GetTally(self, input_message):
        raise NotImplementedError()

    async def Why(self, input_message):
        raise NotImplementedError()

    async def Lookup(self, input_message):
        raise NotImplementedError()

    async def SetLogLevel(self, input_message):
        raise NotImplementedError()

    @property
    def service(self) -> purerpc.Service:
        service_obj = purerpc.Service(
            "inferencegw.v1.GatewayAdmin"
        )
        service_obj.add_method(
            "GetStatus",
            self.GetStatus,
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                inferencegw_dot_v1_dot_admin__pb2.GetStatusRequest,
                inferencegw_dot_v1_dot_admin__pb2.GetStatusResponse,
            )
        )
        service_obj.add_method(
            "Watch",
            self.Watch,
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_STREAM,
                inferencegw_dot_v1_dot_admin__pb2.WatchRequest,
                inferencegw_dot_v1_dot_admin__pb2.WatchResponse,
            )
        )
        service_obj.add_method(
            "ListMembers",
            self.ListMembers,
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                inferencegw_dot_v1_dot_admin__pb2.ListMembersRequest,
                inferencegw_dot_v1_dot_admin__pb2.ListMembersResponse,
            )
        )
        service_obj.add_method(
            "DrainReplica",
            self.DrainReplica,
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                inferencegw_dot_v1_dot_admin__pb2.DrainReplicaRequest,
                inferencegw_dot_v1_dot_admin__pb2.DrainReplicaResponse,
            )
        )
        service_obj.add_method(
            "UndrainReplica",
            self.UndrainReplica,
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                inferencegw_dot_v1_dot_admin__pb2.UndrainReplicaRequest,
                inferencegw_dot_v1_dot_admin__pb2.UndrainReplicaResponse,
            )
        )
        service_obj.add_method(
            "Rollout",
            self.Rollout,
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_STREAM,
                inferencegw_dot_v1_dot_admin__pb2.RolloutRequest,
                inferencegw_dot_v1_dot_admin__pb2.RolloutResponse,
            )
        )
        service_obj.add_method(
            "PauseRollout",
            self.PauseRollout,
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                inferencegw_dot_v1_dot_admin__pb2.PauseRolloutRequest,
                inferencegw_dot_v1_dot_admin__pb2.PauseRolloutResponse,
            )
        )
        service_obj.add_method(
            "GetTally",
            self.GetTally,
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                inferencegw_dot_v1_dot_admin__pb2.GetTallyRequest,
                inferencegw_dot_v1_dot_admin__pb2.GetTallyResponse,
            )
        )
        service_obj.add_method(
            "Why",
            self.Why,
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                inferencegw_dot_v1_dot_admin__pb2.WhyRequest,
                inferencegw_dot_v1_dot_admin__pb2.WhyResponse,
            )
        )
        service_obj.add_method(
            "Lookup",
            self.Lookup,
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                inferencegw_dot_v1_dot_admin__pb2.LookupRequest,
                inferencegw_dot_v1_dot_admin__pb2.LookupResponse,
            )
        )
        service_obj.add_method(
            "SetLogLevel",
            self.SetLogLevel,
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                inferencegw_dot_v1_dot_admin__pb2.SetLogLevelRequest,
                inferencegw_dot_v1_dot_admin__pb2.SetLogLevelResponse,
            )
        )
        return service_obj


class GatewayAdminStub:
    def __init__(self, channel):
        self._client = purerpc.Client(
            "inferencegw.v1.GatewayAdmin",
            channel
        )
        self.GetStatus = self._client.get_method_stub(
            "GetStatus",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                inferencegw_dot_v1_dot_admin__pb2.GetStatusRequest,
                inferencegw_dot_v1_dot_admin__pb2.GetStatusResponse,
            )
        )
        self.Watch = self._client.get_method_stub(
            "Watch",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_STREAM,
                inferencegw_dot_v1_dot_admin__pb2.WatchRequest,
                inferencegw_dot_v1_dot_admin__pb2.WatchResponse,
            )
        )
        self.ListMembers = self._client.get_method_stub(
            "ListMembers",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                inferencegw_dot_v1_dot_admin__pb2.ListMembersRequest,
                inferencegw_dot_v1_dot_admin__pb2.ListMembersResponse,
            )
        )
        self.DrainReplica = self._client.get_method_stub(
            "DrainReplica",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                inferencegw_dot_v1_dot_admin__pb2.DrainReplicaRequest,
                inferencegw_dot_v1_dot_admin__pb2.DrainReplicaResponse,
            )
        )
        self.UndrainReplica = self._client.get_method_stub(
            "UndrainReplica",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                inferencegw_dot_v1_dot_admin__pb2.UndrainReplicaRequest,
                inferencegw_dot_v1_dot_admin__pb2.UndrainReplicaResponse,
            )
        )
        self.Rollout = self._client.get_method_stub(
            "Rollout",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_STREAM,
                inferencegw_dot_v1_dot_admin__pb2.RolloutRequest,
                inferencegw_dot_v1_dot_admin__pb2.RolloutResponse,
            )
        )
        self.PauseRollout = self._client.get_method_stub(
            "PauseRollout",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                inferencegw_dot_v1_dot_admin__pb2.PauseRolloutRequest,
                inferencegw_dot_v1_dot_admin__pb2.PauseRolloutResponse,
            )
        )
        self.GetTally = self._client.get_method_stub(
            "GetTally",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                inferencegw_dot_v1_dot_admin__pb2.GetTallyRequest,
                inferencegw_dot_v1_dot_admin__pb2.GetTallyResponse,
            )
        )
        self.Why = self._client.get_method_stub(
            "Why",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                inferencegw_dot_v1_dot_admin__pb2.WhyRequest,
                inferencegw_dot_v1_dot_admin__pb2.WhyResponse,
            )
        )
        self.Lookup = self._client.get_method_stub(
            "Lookup",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                inferencegw_dot_v1_dot_admin__pb2.LookupRequest,
                inferencegw_dot_v1_dot_admin__pb2.LookupResponse,
            )
        )
        self.SetLogLevel = self._client.get_method_stub(
            "SetLogLevel",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                inferencegw_dot_v1_dot_admin__pb2.SetLogLevelRequest,
                inferencegw_dot_v1_dot_admin__pb2.SetLogLevelResponse,
            )
        )