{{/*
What a pod needs to be in the mesh, for charts that depend on this one. Each template takes one dict:

    root      the chart's own context, `$`
    ports     what the application speaks: a list such as ["8080/http", "5432/tcp"]
    probes    probes and hooks that the sidecar performs for the kubelet, as its setting `probes` has them: a list such
              as [{name: web/liveness, http: {port: 8080, path: /healthz}, timeout: 1}]
    redirect  false: no init container with NET_ADMIN; only explicit listeners are in the mesh
    inbound, outbound   explicit listeners, lists in the sidecar's own syntax
    terminationGracePeriodSeconds   the pod's own, where it has one: a classic sidecar drains within it

    metadata:
      annotations: {{- include "doorward-sidecar.annotations" $mesh | nindent 4 }}
    spec:
      initContainers:
        {{- include "doorward-sidecar.initContainers" $mesh | nindent 4 }}                   before the chart's own
        {{- include "doorward-sidecar.lastInitContainers" $mesh | nindent 4 }}               behind them
      containers: {{- include "doorward-sidecar.containers" $mesh | nindent 4 }}             before the others
      volumes: {{- include "doorward-sidecar.volumes" $mesh | nindent 4 }}

and each probe of the application asks the sidecar: {{ include "doorward-sidecar.probe" (list $mesh "web/liveness") }}
*/}}

{{- define "doorward-sidecar.version" -}}
0.1.0
{{- end }}

{{- define "doorward-sidecar.annotations" -}}
doorward.dev/injected: {{ include "doorward-sidecar.version" . | quote }}
{{- end }}

{{/* A native sidecar, which runs on beside what follows; the redirection goes before it. */}}
{{- define "doorward-sidecar.initContainers" -}}
{{- $settings := index .root.Values "doorward-sidecar" }}
{{- if $settings.nativeSidecar }}
{{- if semverCompare "<1.29.0-0" .root.Capabilities.KubeVersion.Version }}
{{- fail (printf "doorward-sidecar.nativeSidecar needs Kubernetes 1.29 or later and this is %s: set it to false" .root.Capabilities.KubeVersion.Version) }}
{{- end }}
{{- if ne .redirect false }}
- {{- include "doorward-sidecar.redirect" $settings | nindent 2 }}
{{- end }}
- {{- include "doorward-sidecar.sidecar" . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Without a native sidecar: what is redirected earlier finds nobody. */}}
{{- define "doorward-sidecar.lastInitContainers" -}}
{{- $settings := index .root.Values "doorward-sidecar" }}
{{- if and (not $settings.nativeSidecar) (ne .redirect false) }}
- {{- include "doorward-sidecar.redirect" $settings | nindent 2 }}
{{- end }}
{{- end }}

{{/* The sidecar where it is no native one. */}}
{{- define "doorward-sidecar.containers" -}}
{{- $settings := index .root.Values "doorward-sidecar" }}
{{- if not $settings.nativeSidecar }}
- {{- include "doorward-sidecar.sidecar" . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "doorward-sidecar.volumes" -}}
{{- $settings := index .root.Values "doorward-sidecar" -}}
- name: doorward-token
  projected:
    defaultMode: 0444
    sources:
      - serviceAccountToken:
          audience: {{ $settings.tokenAudience | quote }}
          expirationSeconds: {{ $settings.tokenExpirationSeconds }}
          path: token
- name: doorward-trust-bundle
  configMap:
    name: {{ $settings.trustBundle }}
    defaultMode: 0444
    items:
      - {key: bundle.pem, path: bundle.pem}
{{- end }}

{{/* A probe or hook that asks the sidecar: list of the dict above and the name in its `probes`. */}}
{{- define "doorward-sidecar.probe" -}}
{{- $settings := index (index . 0).root.Values "doorward-sidecar" -}}
httpGet: {path: /probe/{{ index . 1 }}, port: {{ $settings.ports.observe }}}
{{- end }}
