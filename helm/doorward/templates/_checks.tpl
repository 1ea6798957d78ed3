{{/* What no schema can say, refused before anything is created. The control plane refuses the same at its start, but by
     then an upgrade has ended the former one, and with it the webhook. */}}
{{- define "doorward.check" -}}
{{- $injector := .Values.injector }}
{{- if and $injector.nativeSidecar (semverCompare "<1.29.0-0" .Capabilities.KubeVersion.Version) }}
{{- fail (printf "injector.nativeSidecar needs Kubernetes 1.29 or later and this is %s: set injector.nativeSidecar=false" .Capabilities.KubeVersion.Version) }}
{{- end }}
{{- if lt (values $injector.ports | toStrings | uniq | len) 3 }}
{{- fail "injector.ports: three different ports are needed" }}
{{- end }}
{{- include "doorward.checkPorts" (list "injector.excludeInboundPorts" $injector.excludeInboundPorts (pick $injector.ports "inbound" "outbound")) }}
{{- include "doorward.checkPorts" (list "injector.excludeOutboundPorts" $injector.excludeOutboundPorts dict) }}
{{- include "doorward.checkNetworks" (list "injector.meshCIDRs" $injector.meshCIDRs) }}
{{- include "doorward.checkNetworks" (list "injector.excludeOutboundAddresses" $injector.excludeOutboundAddresses) }}
{{- include "doorward.checkNetworks" (list "networkPolicy.sidecarCIDRs" .Values.networkPolicy.sidecarCIDRs) }}
{{- include "doorward.checkResources" (list "resources" .Values.resources) }}
{{- range $name, $resources := $injector.resources }}
{{- include "doorward.checkResources" (list (printf "injector.resources.%s" $name) $resources) }}
{{- end }}
{{- include "doorward.checkSettings" .Values.settings }}
{{- end }}

{{/* Ports and ranges; those of the sidecar, by name, cannot be left out of the mesh. */}}
{{- define "doorward.checkPorts" -}}
{{- $name := index . 0 }}
{{- $own := index . 2 }}
{{- range $range := index . 1 }}
{{- $ends := splitList "-" (toString $range) }}
{{- if gt (first $ends | int) (last $ends | int) }}
{{- fail (printf "%s: %v begins above its end" $name $range) }}
{{- end }}
{{- range $port := $own }}
{{- if and (le (first $ends | int) (int $port)) (ge (last $ends | int) (int $port)) }}
{{- fail (printf "%s: %d is a port of the sidecar itself: leave it out" $name (int $port)) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* A network has no bit beyond its prefix: an address inside of one is a slip. */}}
{{- define "doorward.checkNetworks" -}}
{{- $name := index . 0 }}
{{- range $network := index . 1 }}
{{- $width := contains ":" $network | ternary 16 8 }}
{{- $prefix := regexReplaceAll ".*/" $network "" | int }}
{{- range $index, $part := include "doorward.addressParts" (list $name $network) | splitList " " }}
{{- $free := sub (mul $width (add1 $index)) $prefix | min $width | max 0 }}
{{- $size := 1 }}
{{- range until (int $free) }}
{{- $size = mul $size 2 }}
{{- end }}
{{- if mod (int64 $part) $size }}
{{- fail (printf "%s: %s is an address inside of a network: write the network's own" $name $network) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* A network's address in parts: 4 of 8 bits, or 8 of 16. */}}
{{- define "doorward.addressParts" -}}
{{- $name := index . 0 }}
{{- $network := index . 1 }}
{{- $address := regexReplaceAll "/.*" $network "" }}
{{- if not (contains ":" $address) }}
{{- replace "." " " $address }}
{{- else }}
{{- $halves := splitList "::" $address }}
{{- $before := first $halves | splitList ":" }}
{{- $after := rest $halves | join ":" | splitList ":" }}
{{- if eq (len $halves) 1 }}
{{- $after = list }}
{{- else }}
{{- $before = eq (first $halves) "" | ternary list $before }}
{{- $after = eq (last $halves) "" | ternary list $after }}
{{- end }}
{{- $missing := sub 8 (len (concat $before $after)) | int }}
{{- $sized := eq (len $halves) 1 | ternary (eq $missing 0) (and (eq (len $halves) 2) (ge $missing 1)) }}
{{- range concat $before $after }}
{{- $sized = and $sized (regexMatch "^[0-9a-fA-F]{1,4}$" .) }}
{{- end }}
{{- if not $sized }}
{{- fail (printf "%s: %s is no network: write one such as 10.0.0.0/8 or fd00::/8" $name $network) }}
{{- end }}
{{- range until $missing }}
{{- $before = append $before "0" }}
{{- end }}
{{- range $index, $part := concat $before $after }}
{{- gt $index 0 | ternary " " "" }}0x{{ $part }}
{{- end }}
{{- end }}
{{- end }}

{{/* Nothing can be asked for none of, nor for more than its limit. */}}
{{- define "doorward.checkResources" -}}
{{- $name := index . 0 }}
{{- $resources := index . 1 | default dict }}
{{- range $kind, $amounts := pick $resources "requests" "limits" }}
{{- range $what, $amount := $amounts }}
{{- if eq (include "doorward.amount" $amount | float64) 0.0 }}
{{- fail (printf "%s.%s.%s: %v is nothing: write more, or leave it out" $name $kind $what $amount) }}
{{- end }}
{{- end }}
{{- end }}
{{- $limits := $resources.limits | default dict }}
{{- range $what, $request := $resources.requests }}
{{- if hasKey $limits $what }}
{{- if gt (include "doorward.amount" $request | float64) (include "doorward.amount" (get $limits $what) | float64) }}
{{- fail (printf "%s: asks for more %s than its limit: write a lower request or a higher limit" $name $what) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* An amount of Kubernetes as a number. */}}
{{- define "doorward.amount" -}}
{{- $text := include "doorward.text" . }}
{{- $units := dict "" 1 "m" 0.001 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "P" 1e15 "E" 1e18 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 "Pi" 1125899906842624 "Ei" 1152921504606846976 }}
{{- mulf (regexFind "^[0-9.]+" $text) (get $units (regexFind "[A-Za-z]*$" $text)) }}
{{- end }}

{{/* Durations above zero, and of two that belong together the shorter one first. */}}
{{- define "doorward.checkSettings" -}}
{{- range $name, $value := . }}
{{- $seconds := include "doorward.seconds" $value | float64 }}
{{- if or (le $seconds 0.0) (gt $seconds 3153600000.0) }}
{{- fail (printf "settings.%s: %v must lie above zero and below 36500 days" $name $value) }}
{{- end }}
{{- end }}
{{- $all := merge (dict) . (dict "lease-renewal" "30s" "lease-lifetime" "90s" "ping-interval" "15s" "silence-timeout" "45s") }}
{{- range $short, $long := dict "lease-renewal" "lease-lifetime" "ping-interval" "silence-timeout" }}
{{- if ge (get $all $short | include "doorward.seconds" | float64) (get $all $long | include "doorward.seconds" | float64) }}
{{- fail (printf "settings: %s (%v) must be shorter than %s (%v): change one of them" $short (get $all $short) $long (get $all $long)) }}
{{- end }}
{{- end }}
{{- end }}

{{/* A duration, such as 1h30m or a number of seconds, in seconds. */}}
{{- define "doorward.seconds" -}}
{{- $units := dict "" 1 "ms" 0.001 "s" 1 "m" 60 "h" 3600 "d" 86400 }}
{{- $sum := 0.0 }}
{{- range regexFindAll "[0-9.]+[a-z]*" (include "doorward.text" .) -1 }}
{{- $sum = addf $sum (mulf (regexFind "^[0-9.]+" .) (get $units (regexFind "[a-z]*$" .))) }}
{{- end }}
{{- $sum }}
{{- end }}

{{/* A text or number as text: a large number without the exponent that toString gives it. */}}
{{- define "doorward.text" -}}
{{- toJson . | trimAll "\"" }}
{{- end }}
