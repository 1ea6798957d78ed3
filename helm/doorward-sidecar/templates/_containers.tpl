{{/* The two containers themselves. `doorward-sidecar.image` and `.redirect` take the settings, `.sidecar` the dict. */}}

{{- define "doorward-sidecar.image" -}}
image: {{ .image | default (printf "doorward-sidecar:%s" (include "doorward-sidecar.version" .)) }}
imagePullPolicy: {{ .imagePullPolicy }}
{{- end }}

{{- define "doorward-sidecar.redirect" -}}
name: doorward-redirect
{{ include "doorward-sidecar.image" . }}
command:
  - doorward-sidecar
  - redirect
  - --install
  - --inbound-port={{ .ports.inbound }}
  - --outbound-port={{ .ports.outbound }}
  - --sidecar-uid={{ .sidecarUid }}
  - --exclude-inbound-ports={{ prepend .excludeInboundPorts .ports.observe | join "," }}
  {{- with .excludeOutboundPorts }}
  - --exclude-outbound-ports={{ join "," . }}
  {{- end }}
  {{- with .excludeOutboundAddresses }}
  - --exclude-outbound-addresses={{ join "," . }}
  {{- end }}
resources: {{- toYaml .resources.redirect | nindent 2 }}
securityContext:
  # Root and NET_ADMIN for the one moment in which the rules are written.
  runAsUser: 0
  runAsGroup: 0
  runAsNonRoot: false
  readOnlyRootFilesystem: true
  allowPrivilegeEscalation: false
  capabilities: {drop: [ALL], add: [NET_ADMIN]}
  seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "doorward-sidecar.sidecar" -}}
{{- $settings := index .root.Values "doorward-sidecar" -}}
name: doorward-sidecar
{{ include "doorward-sidecar.image" $settings }}
{{- if $settings.nativeSidecar }}
restartPolicy: Always
{{- end }}
command: [doorward-sidecar, run]
env:
  - name: DOORWARD_POD_NAMESPACE
    valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
  - name: DOORWARD_POD_SERVICE_ACCOUNT
    valueFrom: {fieldRef: {fieldPath: spec.serviceAccountName}}
  {{- range $variable := include "doorward-sidecar.environment" . | fromYamlArray }}
  {{- if $variable.value }}
  - name: DOORWARD_{{ $variable.name }}
    value: {{ $variable.value | quote }}
  {{- end }}
  {{- end }}
resources: {{- toYaml $settings.resources.sidecar | nindent 2 }}
# The application waits until the sidecar has its identity and first snapshot.
startupProbe: {{- include "doorward-sidecar.ownProbe" (list $settings "/ready" 1 300) | nindent 2 }}
readinessProbe: {{- include "doorward-sidecar.ownProbe" (list $settings "/ready" 5 3) | nindent 2 }}
livenessProbe: {{- include "doorward-sidecar.ownProbe" (list $settings "/live" 10 3) | nindent 2 }}
securityContext:
  runAsUser: {{ $settings.sidecarUid }}
  runAsGroup: {{ $settings.sidecarUid }}
  runAsNonRoot: true
  readOnlyRootFilesystem: true
  allowPrivilegeEscalation: false
  capabilities: {drop: [ALL]}
  seccompProfile: {type: RuntimeDefault}
volumeMounts:
  - {name: doorward-token, mountPath: /var/run/secrets/doorward, readOnly: true}
  - {name: doorward-trust-bundle, mountPath: /var/run/doorward/trust-bundle, readOnly: true}
{{- end }}

{{- define "doorward-sidecar.ownProbe" -}}
{{- $settings := index . 0 -}}
httpGet: {path: {{ index . 1 }}, port: {{ $settings.ports.observe }}}
periodSeconds: {{ index . 2 }}
timeoutSeconds: 5
failureThreshold: {{ index . 3 }}
{{- end }}

{{/* The sidecar's settings, as a list of {name, value}; what is empty is left out by the caller. */}}
{{- define "doorward-sidecar.environment" -}}
{{- $settings := index .root.Values "doorward-sidecar" }}
{{- $found := list
  (dict "name" "WORKLOAD" "value" "$(DOORWARD_POD_NAMESPACE)/$(DOORWARD_POD_SERVICE_ACCOUNT)")
  (dict "name" "CONTROL_PLANE" "value" $settings.controlPlane)
  (dict "name" "TRUST_DOMAIN" "value" $settings.trustDomain)
  (dict "name" "BUNDLE" "value" "/var/run/doorward/trust-bundle/bundle.pem")
  (dict "name" "TOKEN_FILE" "value" "/var/run/secrets/doorward/token")
}}
{{- if ne .redirect false }}
{{- $found = concat $found (list
  (dict "name" "TRANSPARENT" "value" "true")
  (dict "name" "TRANSPARENT_INBOUND_PORT" "value" (toString $settings.ports.inbound))
  (dict "name" "TRANSPARENT_OUTBOUND_PORT" "value" (toString $settings.ports.outbound))
  (dict "name" "PORTS" "value" (.ports | default list | join ","))
  (dict "name" "MESH_CIDRS" "value" (join "," $settings.meshCIDRs))
  (dict "name" "EGRESS" "value" $settings.egress)
) }}
{{- end }}
{{- concat $found (list
  (dict "name" "INBOUND" "value" (.inbound | default list | join " "))
  (dict "name" "OUTBOUND" "value" (.outbound | default list | join " " | replace "$" "$$"))
  (dict "name" "OBSERVE" "value" (printf "*:%v" $settings.ports.observe))
  (dict "name" "PROBES" "value" (include "doorward-sidecar.probes" .))
  (dict "name" "LOG_LEVEL" "value" $settings.logLevel)
  (dict "name" "REQUEST_LOG" "value" $settings.requestLog)
  (dict "name" "DRAIN_TIMEOUT" "value" (printf "%vs" (include "doorward-sidecar.drain" .)))
) | toYaml }}
{{- end }}

{{/* A classic sidecar is told to end together with the others, and needs 3 s of the pod's grace beside its drain. */}}
{{- define "doorward-sidecar.drain" -}}
{{- $settings := index .root.Values "doorward-sidecar" }}
{{- include "doorward-sidecar.seconds" (list "doorward-sidecar.drainSeconds" $settings.drainSeconds) }}
{{- $grace := kindIs "invalid" .terminationGracePeriodSeconds | ternary 30 .terminationGracePeriodSeconds }}
{{- include "doorward-sidecar.seconds" (list "terminationGracePeriodSeconds" $grace) }}
{{- if $settings.nativeSidecar }}{{ $settings.drainSeconds }}
{{- else }}{{ max 1 (min $settings.drainSeconds (sub $grace 3)) }}
{{- end }}
{{- end }}

{{/* Nothing, where a setting is a whole number: list of its name and value. Arithmetic takes all else for 0. */}}
{{- define "doorward-sidecar.seconds" -}}
{{- $written := toJson (index . 1) }}
{{- if not (regexMatch "^-?[0-9]+$" $written) }}
{{- fail (printf "%s is %s: write seconds, a whole number such as 20" (index . 0) $written) }}
{{- end }}
{{- end }}

{{/* DOORWARD_PROBES: what is left out filled in. Without redirection the application answers on loopback only. */}}
{{- define "doorward-sidecar.probes" -}}
{{- $host := eq .redirect false | ternary "127.0.0.1" "" }}
{{- $found := list }}
{{- range .probes }}
{{- $probe := merge (deepCopy .) (dict "host" $host "timeout" 1) }}
{{- if $probe.http }}
{{- $_ := set $probe "http" (merge $probe.http (dict "scheme" "HTTP" "path" "/" "headers" list)) }}
{{- end }}
{{- $found = append $found $probe }}
{{- end }}
{{- if $found }}{{ toJson $found | replace "$" "\\u0024" }}{{ end }}
{{- end }}
