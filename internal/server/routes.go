package server

import "net/http"

const (
	get    = http.MethodGet
	head   = http.MethodHead
	post   = http.MethodPost
	put    = http.MethodPut
	remove = http.MethodDelete
)

// routes is the surface of the daemon: every endpoint, with and without a
// version in front. {name} stands for anything up to what follows it, slashes
// included, since names of images have them. The first match counts.
func (s *Server) routes() []route {
	return []route{
		{get, "/_ping", s.ping},
		{head, "/_ping", s.ping},
		{get, "/info", s.info},
		{get, "/version", s.version},
		{get, "/events", s.events},
		{get, "/system/df", s.diskUsage},
		{post, "/auth", s.auth},

		{get, "/containers/json", s.containerList},
		{post, "/containers/create", s.containerCreate},
		{post, "/containers/prune", s.containersPrune},
		{get, "/containers/{name}/json", s.containerInspect},
		{get, "/containers/{name}/top", s.containerTop},
		{get, "/containers/{name}/logs", s.containerLogs},
		{get, "/containers/{name}/stats", s.containerStats},
		{get, "/containers/{name}/changes", s.containerChanges},
		{get, "/containers/{name}/export", s.containerExport},
		{head, "/containers/{name}/archive", s.containerStatPath},
		{get, "/containers/{name}/archive", s.containerArchive},
		{put, "/containers/{name}/archive", s.containerExtract},
		{get, "/containers/{name}/attach/ws", s.containerAttachWS},
		{get, "/containers/{name}/checkpoints", unavailable("checkpoint")},
		{post, "/containers/{name}/checkpoints", unavailable("checkpoint")},
		{post, "/containers/{name}/start", s.containerStart},
		{post, "/containers/{name}/stop", s.containerStop},
		{post, "/containers/{name}/restart", s.containerRestart},
		{post, "/containers/{name}/kill", s.containerKill},
		{post, "/containers/{name}/pause", s.containerPause},
		{post, "/containers/{name}/unpause", s.containerUnpause},
		{post, "/containers/{name}/wait", s.containerWait},
		{post, "/containers/{name}/resize", s.containerResize},
		{post, "/containers/{name}/attach", s.containerAttach},
		{post, "/containers/{name}/rename", s.containerRename},
		{post, "/containers/{name}/update", s.containerUpdate},
		{post, "/containers/{name}/exec", s.execCreate},
		{remove, "/containers/{name}", s.containerRemove},
		{post, "/commit", s.commit},

		{post, "/exec/{name}/start", s.execStart},
		{post, "/exec/{name}/resize", s.execResize},
		{get, "/exec/{name}/json", s.execInspect},

		{get, "/images/json", s.imageList},
		{get, "/images/search", s.imageSearch},
		{get, "/images/get", s.imageSave},
		{post, "/images/load", s.imageLoad},
		{post, "/images/create", s.imageCreate},
		{post, "/images/prune", s.imagesPrune},
		{get, "/images/{name}/get", s.imageSave},
		{get, "/images/{name}/json", s.imageInspect},
		{get, "/images/{name}/history", s.imageHistory},
		{post, "/images/{name}/tag", s.imageTag},
		{post, "/images/{name}/push", s.imagePush},
		{remove, "/images/{name}", s.imageRemove},
		{get, "/distribution/{name}/json", s.distribution},

		{get, "/networks", s.networkList},
		{get, "/networks/", s.networkList},
		{post, "/networks/create", s.networkCreate},
		{post, "/networks/prune", s.networksPrune},
		{post, "/networks/{name}/connect", s.networkConnect},
		{post, "/networks/{name}/disconnect", s.networkDisconnect},
		{get, "/networks/{name}", s.networkInspect},
		{remove, "/networks/{name}", s.networkRemove},

		{get, "/volumes", s.volumeList},
		{post, "/volumes/create", s.volumeCreate},
		{post, "/volumes/prune", s.volumesPrune},
		{get, "/volumes/{name}", s.volumeInspect},
		{put, "/volumes/{name}", s.volumeUpdate},
		{remove, "/volumes/{name}", s.volumeRemove},

		{post, "/build", s.build},
		{post, "/build/prune", s.buildPrune},
		{post, "/build/cancel", s.buildCancel},
		{post, "/session", s.session},
		{post, "/grpc", s.grpc},

		{get, "/swarm", noSwarm},
		{post, "/swarm/{name}", unavailable("swarm mode")},
		{get, "/services", noSwarm},
		{get, "/services/{name}", noSwarm},
		{get, "/nodes", noSwarm},
		{get, "/nodes/{name}", noSwarm},
		{get, "/tasks", noSwarm},
		{get, "/tasks/{name}", noSwarm},
		{get, "/secrets", noSwarm},
		{get, "/secrets/{name}", noSwarm},
		{get, "/configs", noSwarm},
		{get, "/configs/{name}", noSwarm},
		{get, "/plugins", s.pluginList},
		{get, "/plugins/{name}/json", s.pluginInspect},

		{get, "/porthole/daemon", s.daemonState},
		{get, "/porthole/system/df", s.ledger},
		{get, "/porthole/system/info", s.facts},
		{post, "/porthole/orphans/prune", s.orphansPrune},
		{get, "/porthole/operations", s.engineOperations},
		{get, "/porthole/containers/{name}/isolation", s.isolation},
		{get, "/porthole/containers/{name}/names", s.containerNames},
		{get, "/porthole/containers/{name}/forwards", s.forwardList},
		{post, "/porthole/containers/{name}/forwards", s.forwardOpen},
		{remove, "/porthole/containers/{name}/forwards", s.forwardClose},
		{post, "/porthole/net/check", s.networkCheck},
		{get, "/porthole/whois", s.whois},
		{get, "/porthole/containers/{name}/samples", s.containerSamples},
		{get, "/porthole/containers/{name}/logs", s.ownLogs},
		{get, "/porthole/containers/{name}/execs", s.execList},
		{get, "/porthole/exec/{name}/hint", s.execHint},
		{post, "/porthole/exec/{name}/signal", s.execSignal},
		{post, "/porthole/exec/{name}/die-with-client", s.execDieWithClient},
		{get, "/porthole/containers/{name}/deaths", s.deaths},
		{get, "/porthole/containers/{name}/health", s.health},
		{get, "/porthole/containers/{name}/why", s.why},
		{get, "/porthole/deaths", s.deaths},
		{post, "/porthole/containers/run", s.containerRun},
		{post, "/porthole/containers/{name}/exec", s.containerExec},

		{get, "/debug/vars", s.debugVars},
		{get, "/debug/pprof/", s.debugPprof},
		{get, "/debug/pprof/{name}", s.debugPprof},
		{post, "/debug/pprof/symbol", s.debugPprof},
	}
}
