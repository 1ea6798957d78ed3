{{/* What no schema can say, refused before anything is created. */}}
{{- define "doorward.check" -}}
{{- if and .Values.injector.nativeSidecar (semverCompare "<1.29.0-0" .Capabilities.KubeVersion.Version) }}
{{- fail (printf "injector.nativeSidecar needs Kubernetes 1.29 or later and this is %s: set injector.nativeSidecar=false" .Capabilities.KubeVersion.Version) }}
{{- end }}
{{- if lt (values .Values.injector.ports | uniq | len) 3 }}
{{- fail "injector.ports: three different ports are needed" }}
{{- end }}
{{- include "doorward.checkNetworks" (list "injector.meshCIDRs" .Values.injector.meshCIDRs) }}
{{- include "doorward.checkNetworks" (list "injector.excludeOutboundAddresses" .Values.injector.excludeOutboundAddresses) }}
{{- include "doorward.checkNetworks" (list "networkPolicy.sidecarCIDRs" .Values.networkPolicy.sidecarCIDRs) }}
{{- end }}

{{/* An IPv4 network has no bit beyond its prefix: an address inside of one is a slip. */}}
{{- define "doorward.checkNetworks" -}}
{{- $name := index . 0 }}
{{- range $network := index . 1 }}
{{- if not (contains ":" $network) }}
{{- $address := 0 }}
{{- range regexSplit "\\." (regexReplaceAll "/.*" $network "") -1 }}
{{- $address = add (mul $address 256) (int .) }}
{{- end }}
{{- $size := 1 }}
{{- range until (int (sub 32 (int (regexReplaceAll ".*/" $network "")))) }}
{{- $size = mul $size 2 }}
{{- end }}
{{- if mod $address $size }}
{{- fail (printf "%s: %s is an address inside of a network: write the network's own" $name $network) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
